//! Values that belong to one connection: caches that must never be shared.
//!
//! A cache of rows, parsed or not, is only right for the connection that it was read through. Kept
//! here, it is owned by whoever holds the connection, and by nobody else. Access is by closure so
//! that no reference to it can outlive the checkout.

use std::any::{Any, TypeId, type_name};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

#[derive(Default)]
pub(super) struct Extensions {
    /// `None` while a closure has the value.
    values: RefCell<HashMap<TypeId, Option<Box<dyn Any + Send>>>>,
}

impl Extensions {
    pub(super) fn with<T, R>(&self, make: impl FnOnce() -> T, work: impl FnOnce(&mut T) -> R) -> R
    where
        T: Send + 'static,
    {
        let key = TypeId::of::<T>();
        let taken = self.values.borrow_mut().insert(key, None);
        let kept = match taken {
            Some(None) => {
                panic!("the extension {} is in use further up the stack", type_name::<T>())
            }
            Some(Some(value)) => value.downcast::<T>().ok(),
            None => None,
        };
        // Should `make` or `work` panic, the half-changed value is dropped and the place is free.
        let place = Place { extensions: self, key };
        let mut value = kept.unwrap_or_else(|| Box::new(make()));
        let result = work(&mut value);
        place.put_back(value);
        result
    }
}

/// Where a value that is in use came from.
struct Place<'e> {
    extensions: &'e Extensions,
    key: TypeId,
}

impl Place<'_> {
    fn put_back(self, value: Box<dyn Any + Send>) {
        self.extensions.values.borrow_mut().insert(self.key, Some(value));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut values = self.extensions.values.borrow_mut();
        if let Some(None) = values.get(&self.key) {
            values.remove(&self.key);
        }
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extensions({})", self.values.borrow().len())
    }
}
