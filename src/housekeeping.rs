//! The pool's one thread of its own: what must not be done on a caller's time.
//!
//! It opens connections in place of those that a check-in had to close, closes what has been idle or
//! open too long, says who holds one for long, gives up those that threads took with them, and
//! publishes what was counted. It holds the pool weakly, so that a pool ends with its last user, and it
//! stops when the pool's end of the `stop` channel is gone.

use std::convert::Infallible;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, tick};

use crate::checkout::{Manage, RolePool, WeakPool};
use crate::error::{caught, quietly};
use crate::metrics::say_who_records_nothing;

/// How often connections are looked at and counts published.
const INTERVAL: Duration = Duration::from_secs(1);

/// Ends the thread when it is dropped.
pub(crate) struct Housekeeping {
    _stop: Sender<Infallible>,
}

impl Housekeeping {
    /// `refill` tells of connections to open again; `also` is done each second.
    pub(crate) fn start<M: Manage>(
        roles: Vec<WeakPool<M>>,
        refill: Receiver<()>,
        also: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(0);
        thread::Builder::new()
            .name("tenure-housekeeping".to_owned())
            .spawn(move || keep_house(&roles, &refill, &stopped, &also))?;
        Ok(Self { _stop: stop })
    }
}

fn keep_house<M: Manage>(
    roles: &[WeakPool<M>],
    refill: &Receiver<()>,
    stopped: &Receiver<Infallible>,
    also: &dyn Fn(),
) {
    let ticks = tick(INTERVAL);
    loop {
        let each_role = |work: fn(&RolePool<M>)| {
            for role in roles.iter().filter_map(WeakPool::upgrade) {
                go_on_after(|| work(&role));
            }
        };
        select! {
            // Nothing is ever sent: what comes is the end.
            recv(stopped) -> _ => return,
            recv(refill) -> message => match message {
                Ok(()) => each_role(|role| role.refill()),
                Err(_) => return,
            },
            recv(ticks) -> _ => {
                each_role(|role| {
                    role.close_old();
                    role.report_long_holds();
                    role.give_up_leaks();
                    role.publish_metrics();
                    role.calm_down();
                    // What could not be opened the last time.
                    role.refill();
                });
                go_on_after(also);
                go_on_after(say_who_records_nothing);
            }
        }
    }
}

/// What goes wrong with one role, or once, must not end the house for good.
fn go_on_after(work: impl FnOnce()) {
    if caught(work).is_err() {
        quietly(|| tracing::error!("housekeeping panicked; it goes on"));
    }
}
