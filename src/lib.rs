//! Myriarch runs millions of short tasks on all the nodes of one large batch job.
//!
//! Data flows one way down and one way up: command ([`cli`]) → bundle ([`task`]) → manager, sub-managers and
//! workers ([`schedule`], joined to the machine by [`drive`]) → a process ([`execute`]) → outcome → [`ledger`] →
//! output ([`observe`]). A program that brings its own `main` and functions uses [`embed`]. [`simulate`] is the virtual
//! machine. `docs/` explains the design; `src/schedule/README.md` the protocol.

pub mod cli;
pub mod drive;
pub mod embed;
pub mod execute;
pub mod fabric;
pub mod ledger;
pub mod observe;
pub mod schedule;
pub mod simulate;
pub mod task;
mod wake;
