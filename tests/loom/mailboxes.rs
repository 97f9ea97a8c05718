//! The mailbox by itself, every interleaving: the real one, and the one that the other models have.

use std::sync::Arc;
use std::time::Instant;

use crate::{mailbox as of_one_step, sync};

#[path = "../../src/checkout/mailbox.rs"]
mod real;

/// Explores a message beside a wait; in the end the waiter says what it has got.
macro_rules! promises_of {
    ($name:ident, $module:ident) => {
        mod $name {
            use super::*;

            type Mailbox = Arc<$module::Mailbox<u32>>;

            fn explore(waits: fn(&Mailbox), puts: &'static [fn(&Mailbox)]) {
                loom::model::Builder::new().check(move || {
                    let mailbox: Mailbox = Arc::new($module::Mailbox::new());
                    let others: Vec<_> = puts
                        .iter()
                        .map(|put| {
                            let mailbox = Arc::clone(&mailbox);
                            loom::thread::spawn(move || put(&mailbox))
                        })
                        .collect();
                    waits(&mailbox);
                    for other in others {
                        other.join().unwrap();
                    }
                });
            }

            fn puts_one(mailbox: &Mailbox) {
                mailbox.put(1);
                mailbox.wake();
            }

            fn puts_two(mailbox: &Mailbox) {
                mailbox.put(2);
                mailbox.wake();
            }

            fn puts_two_and_three(mailbox: &Mailbox) {
                puts_two(mailbox);
                mailbox.put(3);
                mailbox.wake();
            }

            #[test]
            fn a_message_wakes_who_waits_for_it_or_is_found() {
                explore(|mailbox| assert_eq!(mailbox.wait(None), Some(1)), &[puts_one]);
            }

            #[test]
            fn the_latest_message_comes_in_the_end() {
                explore(
                    |mailbox| {
                        while mailbox.wait(None) != Some(3) {}
                        assert_eq!(mailbox.take(), None);
                    },
                    &[puts_two_and_three],
                );
            }

            #[test]
            fn messages_of_two_threads_wake_it() {
                explore(
                    |mailbox| match mailbox.wait(None) {
                        // The other one is on its way, or was replaced.
                        Some(1 | 2) => {}
                        other => panic!("{other:?} was not put in"),
                    },
                    &[puts_one, puts_two],
                );
            }

            #[test]
            fn a_deadline_ends_a_wait_and_loses_no_message() {
                explore(
                    |mailbox| match mailbox.wait(Some(Instant::now())) {
                        Some(message) => assert_eq!(message, 1),
                        // Too late for the wait, and there for who looks once more.
                        None => assert_eq!(mailbox.wait(None), Some(1)),
                    },
                    &[puts_one],
                );
            }
        }
    };
}

promises_of!(the_real_one, real);
promises_of!(the_one_of_one_step, of_one_step);
