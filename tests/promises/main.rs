//! What the crate promises, one promise per module.

mod busy;
mod checkin;
mod checkout;
mod closing;
mod config;
mod connections;
mod damage;
mod documentation;
mod errors;
mod extensions;
mod faults;
mod forgotten;
mod interrupting;
mod logged;
mod logging;
mod metrics;
mod opening;
mod ownership;
mod paths;
mod recorded;
mod retry;
mod session_state;
mod setup;
mod snapshots;
mod transactions;
mod until;
