//! Headers, and the numbers and versions of the APIs.

use super::*;
use crate::header::{RequestHeader, ResponseHeader};
use crate::wire::Text;
use kafka_protocol::protocol::StrBytes;

#[test]
fn apis_are_kafkas() {
    for key in ApiKey::iter() {
        let theirs = oracle::ApiKey::try_from(key as i16).unwrap();
        assert_eq!(ApiKey::from_i16(key as i16), Some(key));
        assert_eq!(key.name(), format!("{theirs:?}"));
        for version in key.versions() {
            assert_eq!(
                key.request_header_version(version),
                theirs.request_header_version(version),
                "{key}"
            );
            assert_eq!(
                key.response_header_version(version),
                theirs.response_header_version(version),
                "{key}"
            );
        }
    }
    assert!(ApiKey::iter().is_sorted());
    assert_eq!(ApiKey::from_i16(-1), None);
}

#[test]
fn versions_beyond_the_range_are_refused() {
    use crate::api::fetch::FetchRequest;
    for version in [-1, 3, 19, i16::MAX] {
        let refused = FetchRequest::decode(&mut Reader::new(Bytes::from_static(&[0; 100])), version);
        assert!(refused.is_err());
        assert!(
            FetchRequest::default()
                .encode(&mut Writer::new(), version)
                .is_err()
        );
    }
}

proptest! {
    #[test]
    fn request_headers_are_kafkas(
        key in prop::sample::select(ApiKey::ALL),
        version in 0..14i16,
        correlation_id: i32,
        client_id: Option<String>,
    ) {
        let header = RequestHeader {
            api_key: key as i16,
            api_version: version,
            correlation_id,
            client_id: client_id.clone().map(Text::from),
        };
        let mut writer = Writer::new();
        header.encode(&mut writer).unwrap();
        let bytes = joined(writer);
        let theirs = oracle::RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(correlation_id)
            .with_client_id(client_id.map(StrBytes::from_string));
        let mut expected = BytesMut::new();
        theirs.encode(&mut expected, key.request_header_version(version)).unwrap();
        prop_assert_eq!(&bytes[..], &expected[..]);
        for length in 0..bytes.len() {
            prop_assert!(RequestHeader::decode(&mut Reader::new(bytes.slice(..length))).is_err());
        }
        let mut reader = Reader::new(bytes);
        prop_assert_eq!(RequestHeader::decode(&mut reader).unwrap(), header);
        prop_assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn response_headers_are_kafkas(correlation_id: i32, header_version in 0..2i16) {
        let header = ResponseHeader { correlation_id };
        let mut writer = Writer::new();
        header.encode(&mut writer, header_version).unwrap();
        let bytes = joined(writer);
        let mut expected = BytesMut::new();
        let theirs = oracle::ResponseHeader::default().with_correlation_id(correlation_id);
        theirs.encode(&mut expected, header_version).unwrap();
        prop_assert_eq!(&bytes[..], &expected[..]);
        for length in 0..bytes.len() {
            prop_assert!(ResponseHeader::decode(&mut Reader::new(bytes.slice(..length)), header_version).is_err());
        }
        prop_assert_eq!(ResponseHeader::decode(&mut Reader::new(bytes), header_version).unwrap(), header);
    }

    #[test]
    fn any_bytes_are_safe_as_headers(bytes in vec(any::<u8>(), 0..60)) {
        let _ = RequestHeader::decode(&mut Reader::new(bytes.clone().into()));
        let _ = ResponseHeader::decode(&mut Reader::new(bytes.clone().into()), 0);
        let _ = ResponseHeader::decode(&mut Reader::new(bytes.into()), 1);
    }
}
