// Names of segments. They sort by LSN as text, so a plain listing of a folder or a bucket is in
// order: `00000000000000000001-00000000000000001234.log.segment`.

import BlockModel
import LogFormat

/// The name of a segment in a store: its LSN range and kind.
public struct SegmentName: Hashable, Sendable {
    public let first: LSN
    public let last: LSN
    public let kind: SegmentKind

    /// `first` is at most `last`; for a snapshot they are equal.
    public init(first: LSN, last: LSN, kind: SegmentKind) {
        precondition(first <= last && (kind != .snapshot || first == last))
        self.first = first
        self.last = last
        self.kind = kind
    }

    /// The snapshot at `lsn`.
    public static func snapshot(_ lsn: LSN) -> SegmentName {
        SegmentName(first: lsn, last: lsn, kind: .snapshot)
    }

    static let suffix = ".segment"
    private static let digits = 20

    /// Reads the canonical text; nil for anything else.
    public init?(_ text: String) {
        guard text.utf8.count < 80, text.hasSuffix(Self.suffix) else { return nil }
        let stem = text.dropLast(Self.suffix.count)
        let parts = stem.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2,
            let kind = SegmentKind.allCases.first(where: { $0.word == parts[1] })
        else { return nil }
        let numbers = parts[0].split(separator: "-", omittingEmptySubsequences: false)
        guard numbers.count == 2, numbers.allSatisfy({ $0.utf8.count == Self.digits }),
            numbers.allSatisfy({ $0.utf8.allSatisfy { (48...57).contains($0) } }),
            let first = UInt64(numbers[0]), let last = UInt64(numbers[1]), first <= last,
            kind != .snapshot || first == last
        else { return nil }
        self.init(first: LSN(first), last: LSN(last), kind: kind)
    }

    private static func padded(_ lsn: LSN) -> String {
        let text = String(lsn.rawValue)
        return String(repeating: "0", count: digits - text.count) + text
    }
}

extension SegmentName: CustomStringConvertible {
    public var description: String {
        "\(Self.padded(first))-\(Self.padded(last)).\(kind.word)\(Self.suffix)"
    }
}

extension SegmentName: Comparable {
    /// The order of the texts.
    public static func < (a: SegmentName, b: SegmentName) -> Bool {
        (a.first, a.last, a.kind.word) < (b.first, b.last, b.kind.word)
    }
}
