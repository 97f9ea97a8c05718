//! A pair of fences of which one costs nothing.
//!
//! Two threads that each write something and then look at what the other writes need a full fence on
//! both sides, or both may miss it. Where one side does so millions of times a second and the other
//! hardly ever, the first can do without: a [`light`] fence only keeps the compiler from moving
//! anything across it, and a [`heavy`] one has the kernel put a full fence into every thread of the
//! process that is running just now (those that are not have had one when they were switched). Of two
//! threads that meet, one with the light fence and one with the heavy one, it is as if both had the full
//! one. Dice, Huang and Yang, "Asymmetric Dekker Synchronization", 2001; in C++ P1202; in Linux
//! `membarrier`, since 4.14.
//!
//! A heavy fence takes some microseconds.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};
use std::thread;
use std::time::Duration;

/// More than the time in which a processor writes back what it has stored, by some orders of magnitude.
const WRITTEN_BACK: Duration = Duration::from_millis(1);

/// Whether the kernel makes fences, and has never refused to.
static AVAILABLE: LazyLock<AtomicBool> = LazyLock::new(|| AtomicBool::new(register()));

/// Whether a light fence may be relied upon from now on: there are systems without.
pub(crate) fn is_available() -> bool {
    AVAILABLE.load(Ordering::Relaxed)
}

#[inline(always)]
pub(crate) fn light() {
    compiler_fence(Ordering::SeqCst);
}

/// For those who had a light fence while they were [available](is_available).
#[cold]
pub(crate) fn heavy() {
    fence(Ordering::SeqCst);
    // A child that was forked may have to register anew.
    let made = in_every_thread() || register() && in_every_thread();
    if !made {
        // Forbidden since, by a sandbox for instance.
        AVAILABLE.store(false, Ordering::Relaxed);
        thread::sleep(WRITTEN_BACK);
    }
    fence(Ordering::SeqCst);
}

#[cfg(target_os = "linux")]
fn register() -> bool {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

#[cfg(target_os = "linux")]
fn in_every_thread() -> bool {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

#[cfg(target_os = "linux")]
fn membarrier(command: libc::c_int) -> bool {
    let (flags, cpu): (libc::c_uint, libc::c_int) = (0, 0);
    // SAFETY: the call takes three numbers and no address, and changes nothing that a program can see
    // but the order of its own memory accesses.
    unsafe { libc::syscall(libc::SYS_membarrier, command, flags, cpu) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn register() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn in_every_thread() -> bool {
    false
}
