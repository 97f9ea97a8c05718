//! Keeps connections from being forgotten by `tiny_http`.
//!
//! `tiny_http` 0.12 gives each connection a thread. When several arrive within microseconds, it may
//! count on one idle thread for two of them; the second is then left alone until some other
//! connection ends, which may be minutes with keep-alive. One more connection makes it start a
//! thread, and a thread that has nothing more to do takes on what was left. So one is made, and
//! closed at once, when a client is new, then less and less often, down to every second.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tiny_http::{Request, Server};

/// Between two nudges after a new client: they may be left alone as well.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// The pause doubles until it is as long as this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many addresses are remembered; forgetting them only costs connections.
const MAX_KNOWN: usize = 10_000;

/// The accepting thread's end: it sees which clients are new.
#[derive(Debug)]
pub(crate) struct Newcomers {
    known: HashSet<SocketAddr>,
    nudge: Sender<()>,
}

/// The end that connects.
#[derive(Debug)]
pub(crate) struct Nudger {
    server: Option<SocketAddr>,
    nudged: Receiver<()>,
}

pub(crate) fn nudges(server: &Server) -> (Newcomers, Nudger) {
    let (nudge, nudged) = bounded(1);
    let newcomers = Newcomers { known: HashSet::new(), nudge };
    (newcomers, Nudger { server: server.server_addr().to_ip(), nudged })
}

impl Newcomers {
    pub(crate) fn look_at(&mut self, request: &Request) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        if request.remote_addr().is_some_and(|client| self.known.insert(*client)) {
            // Full means that the nudge to come is in time for this client too.
            let _ = self.nudge.try_send(());
        }
    }
}

impl Nudger {
    /// Ends with the [`Newcomers`].
    pub(crate) fn run(self) {
        let Some(server) = self.server else { return };
        let mut pause = LONGEST_PAUSE;
        loop {
            pause = match self.nudged.recv_timeout(pause) {
                Ok(()) => SHORTEST_PAUSE,
                Err(RecvTimeoutError::Timeout) => LONGEST_PAUSE.min(pause * 2),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            drop(TcpStream::connect(server));
        }
    }
}
