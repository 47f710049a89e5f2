mod masking;
pub use masking::{Hmac, Masking, Mode};
