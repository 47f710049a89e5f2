//! Rules of the assignment.
