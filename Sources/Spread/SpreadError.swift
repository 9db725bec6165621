// What planning may refuse. Text is made at the rim; `description` is half a sentence for it.

public enum SpreadError: Error, Hashable, Sendable {
    case noDevice
    /// All devices are known to be away.
    case noDeviceAvailable
    case tooManyDevices
    /// The sum of all sizes is above 2^64.
    case tooLarge
    /// More copies than devices that are there.
    case tooFewDevices(copies: Int, available: Int)
    /// The data cannot fit: what is needed and what all devices take together, in bytes.
    case doesNotFit(needed: UInt64, room: UInt64)
    /// A folder to keep together is larger than the room left on any device.
    case togetherDoesNotFit(path: [UInt8], needed: UInt64, room: UInt64)
    /// Nothing lies in the folder.
    case togetherIsEmpty(path: [UInt8])
    /// The option works in mode balanced only.
    case balancedOnly(option: String)
    case badOption(option: String, reason: String)
}

extension SpreadError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .noDevice: "no device is given"
        case .noDeviceAvailable: "no device is available"
        case .tooManyDevices: "more than \(UInt16.max) devices"
        case .tooLarge: "the sources are larger than 2^64 bytes together"
        case .tooFewDevices(let copies, let available):
            "\(copies) copies need \(copies) devices, \(available) available"
        case .doesNotFit(let needed, let room):
            "\(needed) bytes are needed, the devices take \(room) (\(needed - min(room, needed))"
                + " too few)"
        case .togetherDoesNotFit(let path, let needed, let room):
            "'\(PathText.text(path))' is kept together and needs \(needed) bytes on one device; "
                + "the most that one has left is \(room)"
        case .togetherIsEmpty(let path): "'\(PathText.text(path))' holds no file"
        case .balancedOnly(let option): "\(option) needs the mode balanced"
        case .badOption(let option, let reason): "\(option): \(reason)"
        }
    }
}
