//! Threads for tasks that take several cores.

use crate::execute::sys::CpuSet;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::RefCell;
use std::sync::Arc;

/// The cores that a pool's threads are bound to, in the order of the threads; none where they are not bound.
type Units = Option<Vec<u32>>;

thread_local! {
    /// The pools that this slot's tasks have used, the latest last.
    static POOLS: RefCell<Vec<(u32, Units, Arc<ThreadPool>)>> = const { RefCell::new(Vec::new()) };
}

/// Pools that a slot keeps: tasks of other widths, or that begin at other slots, need others.
const KEPT: usize = 4;

/// As many threads as the task that this thread calls has cores, each bound to one of the cores that this thread is bound to
/// where it is bound to so many.
///
/// # Panics
/// Where the system gives no threads.
pub fn cores_pool(cores: u32) -> Arc<ThreadPool> {
    let units = CpuSet::of_this_thread().ok().filter(|units| units.len() == cores as usize);
    POOLS.with_borrow_mut(|pools| {
        if let Some((.., pool)) = pools.iter().find(|(width, bound, _)| *width == cores && *bound == units) {
            return pool.clone();
        }
        let bound = units.clone();
        let builder = ThreadPoolBuilder::new()
            .num_threads(cores as usize)
            .thread_name(|number| format!("task-{number}"))
            .start_handler(move |number| {
                if let Some(unit) = bound.as_ref().and_then(|units| units.get(number)) {
                    // Binding is for speed.
                    let _ = CpuSet::of(&[*unit]).bind();
                }
            });
        let pool = Arc::new(builder.build().expect("the system gives threads"));
        if pools.len() == KEPT {
            pools.remove(0);
        }
        pools.push((cores, units, pool.clone()));
        pool
    })
}
