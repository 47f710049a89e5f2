//! Tells the compiler that `tokio_unstable` is a name that may be asked for: with it, tokio's own random numbers come from
//! the seed too.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(tokio_unstable)");
}
