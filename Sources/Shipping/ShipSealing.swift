// The one place where a key comes between the local segments and what leaves the machine. Without
// a key segments go as they are.

import History
import LogFormat

/// How segments are sealed before they leave. Any thread may call.
public protocol ShipSealing: AnyObject, Sendable {
    /// The sealed twins of the segments in `source`, under the same names. The bytes of one name
    /// stay the same as long as the result lives.
    func sealing(_ source: any SegmentStore) -> any SegmentStore

    /// What stands for a digest outside.
    func chainID(_ digest: SegmentDigest) -> SegmentDigest
}

extension SegmentDigest {
    /// Reads 64 hexadecimal digits.
    init?(hexadecimal text: String) {
        var bytes: [UInt8] = []
        var rest = text[...]
        guard text.utf8.count == 64 else { return nil }
        while !rest.isEmpty {
            guard let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
            bytes.append(byte)
            rest = rest.dropFirst(2)
        }
        self = bytes.withUnsafeBytes { SegmentDigest($0.baseAddress!) }  // 32 bytes
    }
}
