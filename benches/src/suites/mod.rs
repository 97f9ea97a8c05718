//! What each command measures, and what it makes of that.

pub(crate) mod checkout;
pub(crate) mod checkpoint;
pub(crate) mod read;
pub(crate) mod write;

use std::path::Path;

use crate::Options;
use crate::cell::Cell;
use crate::figure::Figure;
use crate::seen::Measured;

pub(crate) struct Suite {
    pub(crate) cells: fn(&Options) -> Vec<Cell>,
    pub(crate) figures: fn(&[Measured]) -> Vec<Figure>,
    pub(crate) charts: fn(&Path, &[Measured]) -> anyhow::Result<()>,
}
