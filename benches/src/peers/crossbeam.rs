//! A bounded channel of connections: receive one, send it back. A floor to look at: it has no
//! guards, no deadlines and no counts.

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use harness::protocol::Recipe;
use harness::threads::Blocking;
use rusqlite::Connection;

use super::connection::{Habits, open_all};

const CLOSED: &str = "the channel is closed";

#[derive(Debug)]
pub(super) struct Channel {
    sender: Sender<Connection>,
    receiver: Receiver<Connection>,
    habits: Habits,
}

impl Channel {
    pub(super) fn open(recipe: &Recipe) -> anyhow::Result<Self> {
        let connections = open_all(recipe)?;
        let (sender, receiver) = bounded(connections.len());
        for connection in connections {
            sender.send(connection).ok().context(CLOSED)?;
        }
        Ok(Self { sender, receiver, habits: Habits::of(recipe) })
    }
}

impl Blocking for Channel {
    #[inline]
    fn hold(&self, held: impl FnOnce()) -> anyhow::Result<()> {
        let connection = self.receiver.recv()?;
        held();
        self.sender.send(connection).ok().context(CLOSED)
    }

    #[inline]
    fn query(&self, id: i64) -> anyhow::Result<i64> {
        let connection = self.receiver.recv()?;
        let number = self.habits.query(&connection, id);
        self.sender.send(connection).ok().context(CLOSED)?;
        Ok(number?)
    }
}
