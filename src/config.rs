//! From a YAML file to a [`Plan`], with every problem reported at once.

pub mod plan;
pub mod secret;

pub use plan::Plan;
