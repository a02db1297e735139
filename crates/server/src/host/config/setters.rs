//! Builder setters of plain values, written once.

/// Implements one setter for each named field.
macro_rules! setters {
    ($group:ident { $($(#[$doc:meta])* $name:ident: $type:ty),* $(,)? }) => {
        impl $group {
            $(
                $(#[$doc])*
                pub fn $name(mut self, $name: $type) -> Self {
                    self.$name = $name;
                    self
                }
            )*
        }
    };
}

pub(super) use setters;
