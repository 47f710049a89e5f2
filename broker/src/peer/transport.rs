//! How QUIC is tuned between brokers, and why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    AckFrequencyConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    TransportConfig, VarInt,
};
use rustls::pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};
use socket2::{Domain, Protocol, Socket, Type};
use uuid::Uuid;

use super::Class;

/// The socket that this broker dials and is dialled by.
///
/// A broker that was killed and comes back gets packets of connections that it does not know any more. It answers them
/// with a reset that the other side knows to be its own, since the key of resets follows from its private key: so the
/// others dial anew at once and do not wait for a timeout. That needs connection ids that any run of it accepts.
pub fn endpoint(
    address: SocketAddr,
    server: quinn::ServerConfig,
    key: &PrivateKeyDer<'_>,
) -> std::io::Result<quinn::Endpoint> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // A burst of replication must not be lost because this process was not scheduled for a moment. The kernel gives
    // what it allows.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&address.into())?;
    let mut config = EndpointConfig::new(Arc::new(ResetKey::of(key)));
    // Others search for large packets as far as they are told that they are taken here.
    config
        .max_udp_payload_size(MTU_BYTES_MAX)
        .expect("it is above the smallest that QUIC allows");
    config.cid_generator(|| Box::new(RandomIds));
    quinn::Endpoint::new(config, Some(server), socket.into(), Arc::new(quinn::TokioRuntime))
}

/// For connections that others dial.
pub fn incoming() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        // A window must hold what is under way in one round trip: 8 MiB are 200 MB/s at 40 ms. More does harm: what a
        // receiver cannot take at once waits in it, out of the processor's caches and in front of what is urgent.
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        // One stream for each call that is under way, and few of replication.
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        // A packet holds what any Ethernet carries, from the first on, and more where loopback or jumbo frames allow: what
        // a byte costs is mostly what its packet costs. With 6,500 bytes a stream on loopback takes a quarter of the CPU.
        // Not more: probes are sent one by one and would arrive, but data is handed to the system ten packets at a time
        // (below), and it refuses more than 65,507 bytes at once. quinn takes the refusal (EMSGSIZE) for that of a probe
        // and goes on, so all ten are lost, until it takes the path for one that swallows large packets (a black hole)
        // and falls back to 1,200 bytes for a minute. With 9,000 and with 16,000 that is what happens.
        .initial_mtu(MTU_BYTES)
        .mtu_discovery_config(Some(discovery()))
        // Many packets for one call of the system: most of what UDP costs is calls.
        .enable_segmentation_offload(true)
        // One acknowledgement for many packets, or after 5 ms: by default it is one for two.
        .ack_frequency_config(Some(acknowledgements()))
        // BBR goes by what arrives, not by what is lost, and that is what a link with losses needs: in single runs of a
        // build that is not optimised, a stream with 1 % lost carried several times what CUBIC let it, and with 20 ms each
        // way tens of times. How the two compare where nothing is lost, those runs do not settle. Both ends have it, as the
        // leader sends on what its followers dial.
        .congestion_controller_factory(Arc::new(quinn::congestion::BbrConfig::default()))
        // A broker that is gone is noticed by missing heartbeats; this only frees what was kept for it, and is longer
        // than a busy machine makes a broker wait. One that was killed and is back says so at once (see `endpoint`).
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE_MAX).expect("a few seconds fit")))
        // Brokers are near each other: the default of a third of a second is how long a first lost packet would cost.
        .initial_rtt(INITIAL_RTT);
    config
}

/// For connections that this broker dials.
pub fn outgoing(class: Class) -> TransportConfig {
    let mut config = incoming();
    if class == Class::Control {
        // Calls are small: what is acknowledged late would only look like a slow network.
        config.ack_frequency_config(None);
    }
    config
}

fn discovery() -> MtuDiscoveryConfig {
    let mut config = MtuDiscoveryConfig::default();
    config.upper_bound(MTU_BYTES_MAX);
    config
}

fn acknowledgements() -> AckFrequencyConfig {
    let mut config = AckFrequencyConfig::default();
    config
        .ack_eliciting_threshold(VarInt::from_u32(10))
        .max_ack_delay(Some(Duration::from_millis(5)));
    config
}

/// Connection ids that any run of a broker could have given, as far as it can tell.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        // Twelve bytes, most of them random: none is given twice.
        ConnectionId::new(&Uuid::new_v4().as_bytes()[..CONNECTION_ID_BYTES])
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The key of stateless resets (RFC 9000, 10.3): HMAC-SHA-256 (RFC 2104) under what follows from the private key.
struct ResetKey([u8; 32]);

impl ResetKey {
    fn of(key: &PrivateKeyDer<'_>) -> Self {
        let digest = Sha256::new()
            .chain_update(b"millstream stateless reset")
            .chain_update(key.secret_der())
            .finalize();
        Self(digest.into())
    }

    fn mac(&self, data: &[u8]) -> [u8; 32] {
        let pad = |with: u8| {
            let mut block = [with; 64];
            block.iter_mut().zip(self.0).for_each(|(pad, key)| *pad ^= key);
            block
        };
        let inner = Sha256::new()
            .chain_update(pad(0x36))
            .chain_update(data)
            .finalize();
        Sha256::new()
            .chain_update(pad(0x5c))
            .chain_update(inner)
            .finalize()
            .into()
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let mac = self.mac(data);
        let length = signature_out.len().min(mac.len());
        signature_out[..length].copy_from_slice(&mac[..length]);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mac = self.mac(data);
        let differs = mac
            .iter()
            .zip(signature)
            .fold(0, |all, (left, right)| all | (left ^ right));
        match signature.len() == mac.len() && differs == 0 {
            true => Ok(()),
            false => Err(CryptoError),
        }
    }
}

const CONNECTION_ID_BYTES: usize = 12;
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const SEND_WINDOW_BYTES: u64 = 8 << 20;
const STREAMS_MAX: u32 = 256;
const MTU_BYTES: u16 = 1452;
const MTU_BYTES_MAX: u16 = 6500;
/// Packets that quinn hands to the system at a time, and the bytes that UDP over IPv4 carries.
const _: () = assert!(10 * MTU_BYTES_MAX as usize <= 65_507);
const KEEP_ALIVE: Duration = Duration::from_millis(500);
const IDLE_MAX: Duration = Duration::from_millis(2500);
const INITIAL_RTT: Duration = Duration::from_millis(20);
