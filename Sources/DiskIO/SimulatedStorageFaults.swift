// What may go wrong in a simulated storage, by chance or by plan, and the random source that
// decides. The model itself is told in prose at the head of SimulatedStorage.swift.

#if canImport(Glibc)
    import Glibc
#endif

/// A small, fast random source (SplitMix64, S. Vigna, public domain): equal seeds give equal
/// numbers on every machine, for ever. Not for secrets.
public struct SeededRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64

    public init(seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15  // arithmetic modulo 2^64 is the method
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// A number in 0 ..< limit; 0 where limit is 0 or 1. The bias is below 2^-32 for small limits.
    public mutating func below(_ limit: Int) -> Int {
        limit <= 1 ? 0 : Int(next().multipliedFullWidth(by: UInt64(limit)).high)
    }

    /// True in `ratio` of all calls; draws nothing where the ratio is 0 or 1.
    public mutating func chance(_ ratio: Double) -> Bool {
        if ratio <= 0 { return false }
        if ratio >= 1 { return true }
        return Double(next() >> 11) * 0x1p-53 < ratio
    }
}

/// Chances of faults, and properties of the simulated file system. All ratios are per call, 0...1.
public struct SimulatedFaults: Sendable {
    /// A write takes fewer bytes than given and says so.
    public var shortWriteRatio = 0.0
    /// EIO; nothing was read.
    public var readErrorRatio = 0.0
    /// EIO; any prefix of the bytes may have been written.
    public var writeErrorRatio = 0.0
    /// EIO; the data that waited is dropped as Linux does, and the next sync succeeds.
    public var syncErrorRatio = 0.0
    /// The write reports success and lands at another place of the same file.
    public var misdirectedWriteRatio = 0.0
    /// The write reports success and lands nowhere.
    public var lostWriteRatio = 0.0
    /// At a crash, a kept sector holds new bytes in front and garbage or old bytes behind.
    /// Disks promise atomic sectors, so 0 is the honest default.
    public var tornSectorRatio = 0.0
    /// After a failed sync the cache is dropped too, so that reads show the old bytes at once.
    public var evictionAfterSyncErrorRatio = 0.5
    /// Bytes that all files together may take (in pages of 4096); nil is no limit.
    public var capacityBytes: UInt64?
    /// Every allocation of space fails with ENOSPC while this is true, whatever the capacity.
    public var isFull = false
    /// Whether `clone` works (reflinks).
    public var canClone = false

    public init() {}
    public static let none = SimulatedFaults()
}

/// A fault that strikes for certain: the `skip`-th matching call after planning, and the
/// `count - 1` matching calls after it.
public struct PlannedFault: Sendable {
    public enum Effect: Sendable, Hashable {
        /// The call fails with this errno (writes may have put down a prefix; a failed sync drops
        /// the data that waited).
        case error(Int32)
        /// A write takes only a part.
        case short
        /// A write reports success and lands nowhere.
        case lost
        /// A write reports success and lands elsewhere in the file.
        case misdirected
    }
    /// Which kind of call.
    public var operation: IOError.Operation
    /// Only paths that contain this; empty is every path.
    public var pathPart: String
    public var effect: Effect
    public var skip: Int
    public var count: Int

    public init(
        _ operation: IOError.Operation, pathPart: String = "", _ effect: Effect, skip: Int = 0,
        count: Int = 1
    ) {
        self.operation = operation
        self.pathPart = pathPart
        self.effect = effect
        self.skip = skip
        self.count = count
    }
}

/// What the fault model decided for one call.
enum SimulatedOutcome {
    case good
    case planned(PlannedFault.Effect)
    /// The power goes during this call: what it does may or may not last, and it never returns.
    case powerLost
}

/// One call that changed, or tried to change, the storage; kept while tracing.
public struct SimulatedOperation: Sendable, CustomStringConvertible {
    public var number: UInt64
    public var operation: IOError.Operation
    public var path: String
    public var offset: UInt64
    public var count: UInt64

    public var description: String { "#\(number) \(operation.rawValue) \(path) \(offset)+\(count)" }
}

extension IOError {
    /// Whether the call failed because the simulated power was off, or the file handle is from
    /// before the last crash or kill: a program never sees this, it is dead by then.
    public var isSimulatedCrash: Bool { code == SimulatedStorage.crashCode }
}
