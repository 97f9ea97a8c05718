//! Group commits go on after one that could not begin.

use std::time::Duration;

use tenure::rusqlite::Connection;
use tenure::{Pool, testing};

#[test]
fn a_batch_that_cannot_begin_keeps_nobody_from_the_next() {
    let pool = testing::temporary_with(
        Pool::builder()
            .busy_timeout(Duration::from_millis(20))
            .checkout_timeout(Duration::from_millis(500)),
    )
    .unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (n INTEGER)").unwrap();
    let outside = Connection::open(pool.config().database.as_ref().unwrap()).unwrap();

    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = pool.group_commit(|_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("cannot begin"), "{error}");
    outside.execute_batch("COMMIT").unwrap();

    pool.group_commit(|tx| Ok(tx.execute("INSERT INTO task VALUES (1)", [])?))
        .expect("the lead was lost with the caller who gave up");
}
