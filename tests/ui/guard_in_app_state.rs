// Every request uses the one connection in the application's state: one request commits or rolls
// back what another is in the middle of.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::sync::Arc;
use std::thread;

use tenure::Error;

pub struct AppState {
    #[cfg(misuse)]
    pub writer: tenure::WriteGuard<'static>,
    #[cfg(not(misuse))]
    pub pool: tenure::Pool,
}

pub fn serve(state: &Arc<AppState>) {
    for _ in 0..16 {
        let state = Arc::clone(state);
        thread::spawn(move || handle(&state));
    }
}

fn handle(state: &AppState) -> Result<(), Error> {
    #[cfg(misuse)]
    let writer = &state.writer;
    #[cfg(not(misuse))]
    let writer = state.pool.write()?;

    writer.execute("UPDATE page SET views = views + 1 WHERE path = '/'", [])?;
    Ok(())
}
