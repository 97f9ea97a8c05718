//! What the dispatch uses of `src/ffi`.
#![allow(unsafe_code)]

#[path = "../../src/ffi/asymmetric_fence.rs"]
pub(crate) mod asymmetric_fence;
