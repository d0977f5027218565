//! The one suite every engine must pass. Each check is a function over a factory of engines.
