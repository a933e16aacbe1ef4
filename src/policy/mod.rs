//! Which rule applies to a descriptor.

mod spec;

pub use spec::{DescriptorSpec, DomainSpec, Limit, Origin, Rule};
