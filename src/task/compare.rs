//! Whether two bundles hold the same tasks: the same program, directory, input and variables at every position.
//! Limits, resources and retries may differ: a run may be taken up with a longer timeout.

use super::bundle::Bundle;
use super::command::Command;
use rayon::prelude::*;

/// The first position at which the tasks differ, or which only one of the two has.
pub fn first_difference(old: &Bundle, new: &Bundle) -> Option<u64> {
    first_difference_outside(old, new, |_| false)
}

/// The same, but tasks at positions that `may_differ` names count as equal. The number of tasks may not differ.
pub fn first_difference_outside(old: &Bundle, new: &Bundle, may_differ: impl Fn(u64) -> bool + Sync) -> Option<u64> {
    let both = old.len().min(new.len());
    let longer = (old.len() != new.len()).then_some(both);
    if old.id() == new.id() {
        return longer;
    }
    let same_templates = old.template().runs_the_same(new.template());
    if same_templates && old.template().is_symbolic() {
        return longer;
    }
    let differs = |index: &u64| {
        let same_text = same_templates && old.entry(*index) == new.entry(*index);
        !same_text && !may_differ(*index) && !same_command(old, new, *index)
    };
    (0..both).into_par_iter().find_first(differs).or(longer)
}

fn same_command(old: &Bundle, new: &Bundle, index: u64) -> bool {
    // A slot that no machine has, so that `{%}` equals nothing but itself.
    let what = |bundle: &Bundle| {
        let Command { program, env, cwd, stdin, .. } = bundle.command(index, u32::MAX);
        let env: Vec<_> = env.into_iter().filter(|(name, _)| name != b"OMP_NUM_THREADS").collect();
        (program, env, cwd, stdin)
    };
    what(old) == what(new)
}
