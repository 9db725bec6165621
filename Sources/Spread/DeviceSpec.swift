// A backup device as it is named on the command line:
//   driver:address?capacity=25G&site=b&rate=40MB/s&weight=2
// The options begin after the last question mark; an address that holds one itself ends with a
// further, bare one (`dir:/what?now?`). Only text is looked at here.

import CommandText

/// A device, as named.
public struct DeviceSpec: Hashable, Sendable {
    public enum Driver: String, Sendable, CaseIterable {
        /// A folder on a file system.
        case dir
        /// A log server.
        case https
        /// The same without TLS; on this machine only.
        case http
        /// Object storage.
        case s3
        /// A tape drive, or a file like one.
        case stream
        /// A write-once optical image.
        case iso
    }

    /// All of it, as given.
    public var name: String
    public var driver: Driver
    /// Without driver and options: for `https` what follows the colon, `//HOST:PORT/NAME`.
    public var address: String
    /// The URL where it is a remote; nil where it is a place in the file system.
    public var url: String? {
        switch driver {
        case .https, .http, .s3: "\(driver.rawValue):\(address)"
        case .dir, .stream, .iso: nil
        }
    }
    /// In bytes.
    public var capacity: UInt64?
    public var site: String?
    /// In bytes a second.
    public var rate: UInt64?
    /// In millionths (SpreadDevice.weightUnit); nil: not given.
    public var weight: UInt64?
    /// Options of the driver alone, by name.
    public var driverOptions: [String: String] = [:]

    /// Names of the options that only one driver knows.
    public static func optionNames(of driver: Driver) -> [String] {
        switch driver {
        case .https, .http: ["token-file", "ca"]
        case .s3: ["endpoint", "region", "path-style", "credentials", "ca"]
        case .dir, .stream, .iso: []
        }
    }

    /// Why a text names no device.
    public enum Failure: Error, Hashable, Sendable {
        case noDriver
        case unknownDriver(String)
        case noAddress
        case unknownOption(String)
        case optionTwice(String)
        case badValue(option: String, value: String, reason: String)

        /// The reason as half a sentence.
        public var reason: String {
            switch self {
            case .noDriver: "no driver before a colon"
            case .unknownDriver(let name): "unknown driver '\(name)'"
            case .noAddress: "no address after the driver"
            case .unknownOption(let name): "unknown option '\(name)'"
            case .optionTwice(let name): "option '\(name)' is given twice"
            case .badValue(let option, let value, let reason): "\(option)=\(value): \(reason)"
            }
        }
    }

    public init(parsing text: String) throws(Failure) {
        guard let colon = text.firstIndex(of: ":"), colon != text.startIndex else {
            throw .noDriver
        }
        guard let driver = Driver(rawValue: String(text[..<colon])) else {
            throw .unknownDriver(String(text[..<colon]))
        }
        name = text
        self.driver = driver
        let rest = text[text.index(after: colon)...]
        let mark = rest.lastIndex(of: "?")
        address = String(rest[..<(mark ?? rest.endIndex)])
        if address.isEmpty || address == "//" { throw .noAddress }
        guard let mark else { return }
        var seen: Set<Substring> = []
        for option in rest[rest.index(after: mark)...].split(separator: "&") {
            let end = option.firstIndex(of: "=") ?? option.endIndex
            let key = option[..<end]
            if !seen.insert(key).inserted { throw .optionTwice(String(key)) }
            try set(String(key), String(option[end...].dropFirst()))
        }
    }

    private mutating func set(_ key: String, _ value: String) throws(Failure) {
        func bad(_ reason: String) -> Failure {
            .badValue(option: key, value: value, reason: reason)
        }
        switch key {
        case "capacity":
            do throws(ByteSize.Failure) {
                capacity = try ByteSize(parsing: value).bytes
            } catch {
                throw bad(error.reason)
            }
        case "site":
            if value.isEmpty { throw bad("no site given") }
            site = value
        case "rate":
            guard let parsed = Self.rate(value) else {
                throw bad("not a rate, such as 40MB/s or 40MiB/s")
            }
            rate = parsed
        case "weight":
            guard let parsed = Self.millionths(value), parsed > 0 else {
                throw bad("not a number above 0 with at most six decimals")
            }
            weight = parsed
        default:
            guard Self.optionNames(of: driver).contains(key) else { throw .unknownOption(key) }
            if value.isEmpty { throw bad("no value given") }
            driverOptions[key] = value
        }
    }

    /// `40MB/s` is decimal, as rates of lines and devices are given; `40M/s` and `40MiB/s` are
    /// powers of 1024, as all sizes here. `/s` may be left out. Above 0.
    static func rate(_ text: String) -> UInt64? {
        var text = text[...]
        if text.hasSuffix("/s") { text = text.dropLast(2) }
        let letters = Array("KMGTPE")
        if text.count > 2, text.last == "B",
            let power = letters.firstIndex(of: Character(text.dropLast().suffix(1).uppercased())),
            let value = millionths(String(text.dropLast(2)))
        {
            let scale = (0..<power).reduce(UInt64(1000)) { scale, _ in scale * 1000 }
            let product = value.multipliedFullWidth(by: scale)
            guard product.high < weightUnit else { return nil }
            let rate = weightUnit.dividingFullWidth(product).quotient
            return rate > 0 ? rate : nil
        }
        guard let rate = try? ByteSize(parsing: String(text)).bytes, rate > 0 else { return nil }
        return rate
    }

    private static let weightUnit = SpreadDevice.weightUnit

    /// `2`, `0.5`, `1.25`: millionths; at most `SpreadDevice.weightMax` of them.
    static func millionths(_ text: String) -> UInt64? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count <= 2, parts.allSatisfy({ !$0.isEmpty && $0.allSatisfy(isDigit) }),
            let whole = UInt64(parts[0]), whole < 1 << 20
        else { return nil }
        guard parts.count == 2 else { return whole * weightUnit }
        guard parts[1].count <= 6, let part = UInt64(parts[1]) else { return nil }
        let scale = (parts[1].count..<6).reduce(UInt64(1)) { scale, _ in scale * 10 }
        return whole * weightUnit + part * scale
    }

    private static func isDigit(_ character: Character) -> Bool {
        character.isASCII && character.isNumber
    }
}

extension SpreadDevice {
    /// The devices of a job. Weights are those given. Where none is given and every device has a
    /// rate, the rates are the weights: then all end at the same time.
    public static func devices(_ specs: [DeviceSpec]) -> [SpreadDevice] {
        let byRate = specs.allSatisfy { $0.weight == nil && $0.rate != nil }
        // Rates are scaled down alike until the fastest is a weight.
        let fastest = specs.compactMap(\.rate).max() ?? 0
        let shift = max(0, weightMax.leadingZeroBitCount + 1 - fastest.leadingZeroBitCount)
        return specs.map { spec in
            SpreadDevice(
                name: spec.name, capacity: spec.capacity,
                weight: byRate
                    ? max(1, (spec.rate ?? 1) >> UInt64(shift)) : spec.weight ?? weightUnit,
                rate: spec.rate, site: spec.site)
        }
    }
}
