//! One caller's work, on its way to the thread that runs it and back.
//!
//! The caller waits for one of three things: to be told to lead, its answer, or its deadline. Which of
//! them comes first is decided under the request's own lock: work that was not begun when the deadline
//! passes is taken back, and dropped on the caller's thread; work that was begun is waited for.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, Thread};
use std::time::Instant;

use super::sync::{Condvar, Mutex};
use crate::error::Error;
use crate::sqlite::{Hook, Panic, Savepoint, run_hooks};
use crate::who::Place;

/// How the work ended.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Ended {
    Well,
    WithError,
    WithPanic,
}

/// Who has called.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) thread: Thread,
    pub(super) place: Place,
    pub(super) since: Instant,
}

/// A request, whatever its types.
pub(super) trait Job: Send + Sync {
    fn caller(&self) -> &Caller;

    /// Tells the caller to lead; `false` = it has given up.
    fn appoint(&self) -> bool;

    /// From now on the work cannot be taken back; `false` = it was.
    fn choose(&self) -> bool;

    /// Runs the work that was chosen.
    fn run(&self, savepoint: &mut Savepoint<'_>) -> Ended;

    /// An error takes the place of what the work returned, but not of a panic.
    fn fail(&self, error: Error);

    /// A panic takes the place of what the work returned.
    fn panicked(&self, panic: Panic);

    /// Runs what the work had asked for. A panic takes the place of what it returned.
    fn committed(&self, hooks: Vec<Hook>);

    /// Drops the hooks unrun. A panic takes the place of what the work returned.
    fn not_committed(&self, hooks: Vec<Hook>);

    /// Gives the caller what the work returned.
    fn answer(&self);
}

/// What the caller gets; `Err` = a panic that goes on in its thread.
type Answer<T, E> = thread::Result<Result<T, E>>;

enum State<F, T, E> {
    Waiting(F),
    /// Waiting, and told to lead.
    Appointed(F),
    Chosen(F),
    /// With a thread, or given up.
    Empty,
    Ran(Answer<T, E>),
    Answered(Answer<T, E>),
}

/// What a caller has waited for.
pub(super) enum Told<F, T, E> {
    Lead,
    Answer(Answer<T, E>),
    /// The deadline has passed; the work was not begun and never will be.
    TooLate(F),
}

pub(super) struct Request<F, T, E> {
    /// Never held while code of the application runs.
    state: Mutex<State<F, T, E>>,
    told: Condvar,
    caller: Caller,
    span: tracing::Span,
}

impl<F, T, E> Request<F, T, E> {
    pub(super) fn new(work: F, place: Place, since: Instant) -> Self {
        Self {
            state: Mutex::new(State::Waiting(work)),
            told: Condvar::new(),
            caller: Caller { thread: thread::current(), place, since },
            span: tracing::Span::current(),
        }
    }

    /// By the caller, before it waits: whether there is something to wait for no longer.
    pub(super) fn is_told(&self) -> bool {
        matches!(*self.state.lock(), State::Appointed(_) | State::Answered(_))
    }

    /// By the caller.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Told<F, T, E> {
        let mut state = self.state.lock();
        let mut too_late = false;
        loop {
            match mem::replace(&mut *state, State::Empty) {
                State::Answered(answer) => return Told::Answer(answer),
                State::Appointed(work) => {
                    *state = State::Appointed(work);
                    return Told::Lead;
                }
                State::Waiting(work) if too_late => return Told::TooLate(work),
                other => *state = other,
            }
            (state, too_late) = match deadline {
                Some(deadline) if matches!(*state, State::Waiting(_)) => {
                    self.told.wait_until(state, deadline)
                }
                _ => (self.told.wait(state), false),
            };
        }
    }

    /// By the caller that leads and did not get to its work: drops that, here.
    pub(super) fn give_up(&self) {
        drop(self.replace(State::Empty));
    }

    fn replace(&self, state: State<F, T, E>) -> State<F, T, E> {
        mem::replace(&mut *self.state.lock(), state)
    }
}

impl<F, T, E> Job for Request<F, T, E>
where
    F: FnOnce(&mut Savepoint<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn appoint(&self) -> bool {
        let mut state = self.state.lock();
        match mem::replace(&mut *state, State::Empty) {
            State::Waiting(work) => {
                *state = State::Appointed(work);
                drop(state);
                self.told.notify_one();
                true
            }
            other => {
                *state = other;
                false
            }
        }
    }

    fn choose(&self) -> bool {
        let mut state = self.state.lock();
        match mem::replace(&mut *state, State::Empty) {
            State::Waiting(work) | State::Appointed(work) => {
                *state = State::Chosen(work);
                true
            }
            other => {
                *state = other;
                false
            }
        }
    }

    fn run(&self, savepoint: &mut Savepoint<'_>) -> Ended {
        let State::Chosen(work) = self.replace(State::Empty) else {
            unreachable!("only work that was chosen is run, and once");
        };
        let answer = catch_unwind(AssertUnwindSafe(|| self.span.in_scope(|| work(savepoint))));
        let ended = match &answer {
            Ok(Ok(_)) => Ended::Well,
            Ok(Err(_)) => Ended::WithError,
            Err(_) => Ended::WithPanic,
        };
        self.replace(State::Ran(answer));
        ended
    }

    fn fail(&self, error: Error) {
        let answer = match self.replace(State::Empty) {
            State::Ran(Err(panic)) => Err(panic),
            before => {
                // What it owns may panic when it is dropped: then that is the answer.
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(before)));
                dropped.and_then(|()| catch_unwind(AssertUnwindSafe(|| Err(E::from(error)))))
            }
        };
        self.replace(State::Ran(answer));
    }

    fn panicked(&self, panic: Panic) {
        let answer = match self.replace(State::Empty) {
            // The first one goes on. To drop what the other carries may panic again.
            State::Ran(Err(first)) => {
                mem::forget(panic);
                Err(first)
            }
            before => match catch_unwind(AssertUnwindSafe(|| drop(before))) {
                Ok(()) => Err(panic),
                Err(of_drop) => Err(of_drop),
            },
        };
        self.replace(State::Ran(answer));
    }

    fn committed(&self, hooks: Vec<Hook>) {
        let run = || self.span.in_scope(|| run_hooks(hooks));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            self.panicked(panic);
        }
    }

    fn not_committed(&self, hooks: Vec<Hook>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(hooks))) {
            self.panicked(panic);
        }
    }

    fn answer(&self) {
        let mut state = self.state.lock();
        match mem::replace(&mut *state, State::Empty) {
            State::Ran(answer) => *state = State::Answered(answer),
            other => *state = other,
        }
        drop(state);
        self.told.notify_one();
    }
}
