//! What the crate promises, one promise per module.

mod busy;
mod checkin;
mod checkout;
mod config;
mod connections;
mod documentation;
mod errors;
mod extensions;
mod faults;
mod metrics;
mod opening;
mod ownership;
mod paths;
mod recorded;
mod retry;
mod setup;
mod snapshots;
mod transactions;
mod until;
