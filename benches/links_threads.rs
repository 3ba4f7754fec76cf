//! Messages between two ranks that are threads of one process.

mod common;

use myriarch::fabric::{Fabric, ThreadFabric};

fn main() {
    let mut fabrics = ThreadFabric::group(2).expect("two ranks");
    let (other, first) = (fabrics.remove(1), fabrics.remove(0));
    std::thread::scope(|scope| {
        scope.spawn(|| take_part(other));
        take_part(first);
    });
}

fn take_part(mut fabric: ThreadFabric) {
    common::echo::take_part(&mut fabric, "threads", common::criterion);
    Box::new(fabric).finish(false);
}
