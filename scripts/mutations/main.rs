//! Runs trials from a seed on, to so many of them, and says how many it took until one broke a rule, and which rule.

use mutant::simulate::{Given, Trial};

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let numbers: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let [first, seeds] = numbers[..] else { panic!("FIRST SEEDS") };
    for seed in first..first + seeds {
        let trial = Trial::draw(seed, &Given::default()).expect("nothing is given");
        if let Err(failed) = trial.run() {
            println!("{}\t{}", seed - first + 1, failed.what);
            return;
        }
    }
    println!("-\tnot within {seeds}");
}
