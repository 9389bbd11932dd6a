//! Loops that the compiler vectorises: run-time dispatch to AVX2 or AVX-512 (through `pulp`), sums in a fixed number of
//! lanes so that their bits do not depend on the vector width, and an `exp` that vectorises.
