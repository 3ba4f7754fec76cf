//! The functions that tasks call, on every rank before anything runs.

use super::error::DriveError;
use super::manager::place_of;
use crate::execute::functions::{Function, Isolation, load_function, missing};
use crate::fabric::Fabric;
use crate::schedule::{decode, encode};
use crate::task::Bundle;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Functions by their names.
pub(super) type Functions = HashMap<String, Function>;

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

/// Loads a function; with `isolation` elsewhere, so that its library can hurt no rank.
fn load(name: &str, isolation: Option<&Arc<Isolation>>) -> Result<Function, String> {
    match isolation {
        Some(isolation) => isolation.probe(name).map(|()| missing(name)),
        None => load_function(name).map_err(|error| error.to_string()),
    }
}

/// Collective, where there are functions to call: loads them on every rank. The inner error is that of the first function
/// which some rank cannot load, the same on all ranks: nothing runs then.
pub(super) fn functions_everywhere(
    fabric: &mut dyn Fabric,
    names: &[String],
    isolation: Option<&Arc<Isolation>>,
) -> Result<Result<Functions, MissingFunction>, DriveError> {
    if names.is_empty() {
        return Ok(Ok(Functions::new()));
    }
    let rank = Some(fabric.rank().0);
    let load = |(number, name): (u32, &String)| match load(name, isolation) {
        Ok(function) => Ok((name.clone(), function)),
        Err(why) => Err(MissingFunction { number, rank, why }),
    };
    let loaded: Result<Functions, MissingFunction> = (0..).zip(names).map(load).collect();
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
