// Sizes as people type and read them. Units are powers of 1024, always: 10G and 10GiB are the same
// number. 10GB, which could mean either, is refused rather than guessed.

/// A number of bytes from or for a command line.
public struct ByteSize: Hashable, Sendable {
    public var bytes: UInt64

    public init(bytes: UInt64) { self.bytes = bytes }

    /// Why a text is no size.
    public enum Failure: Error, Hashable, Sendable {
        case empty
        case negative
        case notANumber
        /// A decimal unit such as GB; the payload is the letter to use instead.
        case ambiguousUnit(String, instead: String)
        case unknownUnit(String)
        case notWholeBytes
        case tooLarge

        /// The reason as half a sentence.
        public var reason: String {
            switch self {
            case .empty: return "no size given"
            case .negative: return "a size cannot be negative"
            case .notANumber: return "not a number"
            case .ambiguousUnit(let unit, let instead):
                return "\(unit) is ambiguous; write \(instead) or \(instead)iB for 1024-based units"
            case .unknownUnit(let unit): return "unknown unit '\(unit)'; use K, M, G, T, P or E"
            case .notWholeBytes: return "not a whole number of bytes"
            case .tooLarge: return "larger than 2^64 bytes"
            }
        }
    }

    private static let units: [(letter: String, shift: UInt64)] = [
        ("K", 10), ("M", 20), ("G", 30), ("T", 40), ("P", 50), ("E", 60),
    ]

    /// Reads `4096`, `512M`, `10G`, `10GiB`, `1.5T`; letters in either case.
    public init(parsing text: String) throws(Failure) {
        let trimmed = text.filter { $0 != " " }
        guard let first = trimmed.first else { throw .empty }
        if first == "-" { throw .negative }
        let number = trimmed.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        let shift = try Self.shift(ofUnit: String(trimmed.dropFirst(number.count)), number: number)
        let parts = number.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count <= 2, !parts[0].isEmpty, parts.last?.isEmpty == false else {
            throw .notANumber
        }
        guard let whole = UInt64(parts[0]), whole <= UInt64.max >> shift else { throw .tooLarge }
        var total = whole << shift
        if parts.count == 2 {
            let fraction = try Self.fraction(parts[1], shift: shift)
            guard !total.addingReportingOverflow(fraction).overflow else { throw .tooLarge }
            total += fraction
        }
        bytes = total
    }

    private static func shift(ofUnit unit: String, number: Substring) throws(Failure) -> UInt64 {
        if number.isEmpty { throw .notANumber }
        let upper = unit.uppercased()
        if upper.isEmpty || upper == "B" { return 0 }
        for (letter, shift) in units {
            if upper == letter || upper == letter + "IB" { return shift }
            if upper == letter + "B" { throw .ambiguousUnit(unit, instead: letter) }
        }
        throw .unknownUnit(unit)
    }

    /// The bytes of `0.digits` units.
    private static func fraction(_ digits: Substring, shift: UInt64) throws(Failure) -> UInt64 {
        guard digits.count <= 9, let value = UInt64(digits) else { throw .notANumber }
        let divisor = (0..<digits.count).reduce(UInt64(1)) { power, _ in power * 10 }
        // value < 10^9 < 2^30: split the shift so that the product stays within 128 bits.
        let product = value.multipliedFullWidth(by: UInt64(1) << shift)
        let (quotient, remainder) = divisor.dividingFullWidth(product)
        guard remainder == 0 else { throw .notWholeBytes }
        return quotient
    }
}

extension ByteSize: CustomStringConvertible {
    /// For people: `512 B`, `1.5 MiB`, `10 GiB`; at most one decimal, rounded half up.
    public var description: String {
        if bytes < 1024 { return "\(bytes) B" }
        var unit = Self.units[0]
        for candidate in Self.units where bytes >= UInt64(1) << candidate.shift { unit = candidate }
        var whole = bytes >> unit.shift
        let rest = bytes & ((UInt64(1) << unit.shift) - 1)
        // Ten times the rest fits: the rest is below 2^60.
        var tenth = (rest * 10 + UInt64(1) << (unit.shift - 1)) >> unit.shift
        if tenth == 10 {
            whole += 1
            tenth = 0
        }
        return tenth == 0 ? "\(whole) \(unit.letter)iB" : "\(whole).\(tenth) \(unit.letter)iB"
    }
}
