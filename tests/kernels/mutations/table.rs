//! Bugs to plant in kernels: each a change of text, and a case of tests/support/cases.rs that must then fail.

/// Which modes of the host executor must find it.
#[derive(Clone, Copy, PartialEq)]
pub enum By {
    /// One of the fast ones at least: a report, a wrong number, or other bits in another order.
    Fast,
    /// Only the hooked one: whether numbers come out wrong depends on luck.
    Hooked,
}

pub struct Mutation {
    /// In `kernels/`.
    pub file: &'static str,
    pub what: &'static str,
    /// Stands in the file exactly once.
    pub from: &'static str,
    pub to: &'static str,
    /// Name of the case in tests/support/cases.rs.
    pub case: &'static str,
    pub by: By,
}

pub const fn row(
    file: &'static str,
    what: &'static str,
    from: &'static str,
    to: &'static str,
    case: &'static str,
    by: By,
) -> Mutation {
    Mutation { file, what, from, to, case, by }
}
