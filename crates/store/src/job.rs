//! A closure on its way to the database and its answer on the way back.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use crate::error::Error;
use crate::read::Read;
use crate::write::{Committed, Tx};

/// A write whose closure and answer types are hidden.
pub(crate) trait WriteJob: Send {
    /// Runs the closure. `Ok(true)`: commit; `Ok(false)`: the closure wants nothing written; `Err`: it panicked.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<bool, Error>;
    /// Tells the caller. `Ok` carries the revision of the commit; `Err` wins over what the closure gave.
    fn answer(self: Box<Self>, outcome: Result<i64, Error>);
}

/// A read whose closure and answer types are hidden.
pub(crate) trait ReadJob: Send {
    /// Runs the closure and tells the caller.
    fn run(self: Box<Self>, read: Result<&mut Read<'_>, Error>);
}

pub(crate) struct Writing<F, R, E> {
    closure: F,
    result: Option<Result<R, E>>,
    answer: oneshot::Sender<Result<Committed<R>, E>>,
}

pub(crate) struct Reading<F, R, E> {
    closure: F,
    answer: oneshot::Sender<Result<R, E>>,
}

impl<F, R, E> Writing<F, R, E>
where
    F: FnMut(&mut Tx<'_>) -> Result<R, E> + Send + 'static,
    R: Send + 'static,
    E: From<Error> + Send + 'static,
{
    pub(crate) fn new(closure: F) -> (Self, oneshot::Receiver<Result<Committed<R>, E>>) {
        let (answer, receiver) = oneshot::channel();
        (Writing { closure, result: None, answer }, receiver)
    }
}

impl<F, R, E> WriteJob for Writing<F, R, E>
where
    F: FnMut(&mut Tx<'_>) -> Result<R, E> + Send + 'static,
    R: Send + 'static,
    E: From<Error> + Send + 'static,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<bool, Error> {
        let closure = &mut self.closure;
        let result = catch_unwind(AssertUnwindSafe(|| closure(tx))).map_err(|_| Error::Crashed)?;
        let commit = result.is_ok();
        self.result = Some(result);
        Ok(commit)
    }

    fn answer(self: Box<Self>, outcome: Result<i64, Error>) {
        let answer = match (outcome, self.result) {
            (Err(error), _) => Err(E::from(error)),
            (Ok(revision), Some(Ok(value))) => Ok(Committed { value, revision }),
            (Ok(_), Some(Err(error))) => Err(error),
            (Ok(_), None) => Err(E::from(Error::Crashed)),
        };
        // A caller that went away does not want to know.
        let _ = self.answer.send(answer);
    }
}

impl<F, R, E> Reading<F, R, E>
where
    F: FnOnce(&mut Read<'_>) -> Result<R, E> + Send + 'static,
    R: Send + 'static,
    E: From<Error> + Send + 'static,
{
    pub(crate) fn new(closure: F) -> (Self, oneshot::Receiver<Result<R, E>>) {
        let (answer, receiver) = oneshot::channel();
        (Reading { closure, answer }, receiver)
    }
}

impl<F, R, E> ReadJob for Reading<F, R, E>
where
    F: FnOnce(&mut Read<'_>) -> Result<R, E> + Send + 'static,
    R: Send + 'static,
    E: From<Error> + Send + 'static,
{
    fn run(self: Box<Self>, read: Result<&mut Read<'_>, Error>) {
        let Reading { closure, answer } = *self;
        let result = match read {
            Ok(read) => {
                catch_unwind(AssertUnwindSafe(|| closure(read))).unwrap_or_else(|_| Err(E::from(Error::Crashed)))
            }
            Err(error) => Err(E::from(error)),
        };
        let _ = answer.send(result);
    }
}
