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
//! A heavy fence takes some microseconds. Before the first the process has to register, which takes the
//! kernel some milliseconds where there are threads. A sandbox that does not know the call may refuse it:
//! then there are no light fences; one that ends the process for it has to be told.

use std::sync::atomic::{AtomicU8, Ordering, compiler_fence, fence};
use std::thread;
use std::time::Duration;

/// More than the time in which a processor writes back what it has stored, by some orders of magnitude.
const WRITTEN_BACK: Duration = Duration::from_millis(1);

/// Whether the kernel makes fences, and has never refused to. No lock, which a fork could leave locked:
/// two threads may both register, and nothing comes of it.
static AVAILABLE: AtomicU8 = AtomicU8::new(UNKNOWN);

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

/// Whether a light fence may be relied upon from now on: there are systems without.
pub(crate) fn is_available() -> bool {
    if AVAILABLE.load(Ordering::Relaxed) == UNKNOWN {
        let registered = if register() { YES } else { NO };
        let _ =
            AVAILABLE.compare_exchange(UNKNOWN, registered, Ordering::Relaxed, Ordering::Relaxed);
    }
    AVAILABLE.load(Ordering::Relaxed) == YES
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
        AVAILABLE.store(NO, Ordering::Relaxed);
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
    // SAFETY: the call takes three numbers and no address, and changes nothing in the process's memory.
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
