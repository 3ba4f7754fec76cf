//! The functions that tasks call, on every rank before anything runs.

use super::manager::place_of;
use super::plan::Shared;
use super::rank::DriveError;
use crate::execute::Spawner;
use crate::execute::functions::{Function, Isolation, load_function};
use crate::fabric::Fabric;
use crate::schedule::{decode, encode};
use crate::task::Bundle;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// What tasks call.
#[derive(Default)]
pub(super) struct Functions {
    /// By their names. None where they run in processes of their own.
    pub(super) named: HashMap<String, Function>,
    /// Where the one function of all tasks runs in processes of its own: it is not loaded in the rank.
    pub(super) isolation: Option<Arc<Isolation>>,
}

/// A function that cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct MissingFunction {
    /// Its number in the bundle.
    number: u32,
    /// Where it is missing; `None` where all ranks lack it.
    rank: Option<u32>,
    why: String,
}

impl MissingFunction {
    /// Names the option that names it, or else the first task that does.
    pub(super) fn describe(&self, bundle: &Bundle) -> String {
        let place = match bundle.called_by_all() {
            true => "--call".to_owned(),
            false => {
                let task = (0..bundle.len()).find(|index| bundle.function_of(*index) == Some(self.number));
                place_of(bundle, task.unwrap_or(0))
            }
        };
        match self.rank {
            Some(rank) => format!("rank {rank}: {place}: {}", self.why),
            None => format!("{place}: {}", self.why),
        }
    }
}

/// Collective, where there are functions to call: loads them on every rank, or in a process of their own where their library
/// is to hurt no rank. The inner error is that of the first function which some rank cannot load, the same on all ranks:
/// nothing runs then.
pub(super) fn functions_everywhere(
    fabric: &mut dyn Fabric,
    spawner: &mut Option<Spawner>,
    shared: &Shared,
) -> Result<Result<Functions, MissingFunction>, DriveError> {
    let names = &shared.functions;
    let Some(first) = names.first() else { return Ok(Ok(Functions::default())) };
    let rank = Some(fabric.rank().0);
    let missing = |number: u32, why: String| MissingFunction { number, rank, why };
    let loaded = match spawner.take_if(|_| shared.isolate) {
        Some(spawner) => {
            let isolation = Isolation::new(spawner, first);
            isolation.probe().map_err(|why| missing(0, why)).map(|()| isolation)
        }
        .map(|isolation| Functions { named: HashMap::new(), isolation: Some(isolation) }),
        None => {
            let load = |(number, name): (u32, &String)| match load_function(name) {
                Ok(function) => Ok((name.clone(), function)),
                Err(error) => Err(missing(number, error.to_string())),
            };
            let named = (0..).zip(names).map(load).collect::<Result<_, _>>();
            named.map(|named| Functions { named, isolation: None })
        }
    };
    let reports = fabric.gather(encode(&loaded.as_ref().err()))?;
    let first = reports.map(|reports| {
        let read = |bytes: &Vec<u8>| decode::<Option<MissingFunction>>(bytes).unwrap_or_default();
        let all: Vec<Option<MissingFunction>> = reports.iter().map(read).collect();
        let mut first = all.iter().flatten().min().cloned()?;
        // What all ranks say need not be pinned on one of them.
        if all.iter().all(|own| own.as_ref().is_some_and(|own| own.number == first.number)) {
            first.rank = None;
        }
        Some(first)
    });
    let told = fabric.broadcast(first.map(|first| encode(&first)))?;
    let first = decode::<Option<MissingFunction>>(&told).map_err(|_| DriveError::Plan)?;
    Ok(first.map_or(loaded, Err))
}
