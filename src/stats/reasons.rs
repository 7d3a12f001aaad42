//! Reasons that a BPF program counts by: closed lists, a line a reason.

/// Makes an enum of such a list, whose numbers are the places of its counters: of each reason its label and what it means.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident: $($variant:ident $label:literal $help:literal;)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $help] $variant,)* }

        impl $name {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The value of the metric label `reason`.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// What it means.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

pub(super) use reasons;

#[cfg(test)]
mod tests {
    use super::super::{PassReason, UpReason};

    #[test]
    fn every_reason_indexes_its_own_counter() {
        for (index, reason) in UpReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
        for (index, reason) in PassReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
