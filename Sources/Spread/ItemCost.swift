// What a file costs besides its bytes, in bytes: the time that a device needs for a small file,
// times what it writes in that time. A few small files and one large one are written to the
// device's own unfinished area and removed again. What comes out is one number for all devices, the
// middle one; the plan follows from it and is deterministic again.

import CLinux
import DiskIO

/// How fast a device is, as measured.
public struct DeviceTiming: Sendable, Hashable {
    public var secondsPerFile: Double
    public var bytesPerSecond: Double

    public init(secondsPerFile: Double, bytesPerSecond: Double) {
        (self.secondsPerFile, self.bytesPerSecond) = (secondsPerFile, bytesPerSecond)
    }
}

public enum ItemCost {
    /// Rounded up to a multiple of this.
    public static let unit: UInt64 = 1 << 10
    /// What is above is a device that was disturbed.
    public static let most: UInt64 = 64 << 20

    /// Of a device that is written to at most at `rate` bytes a second.
    public static func bytes(_ timing: DeviceTiming, rate: UInt64?) -> UInt64 {
        let speed = rate.map { min(Double($0), timing.bytesPerSecond) } ?? timing.bytesPerSecond
        let cost = timing.secondsPerFile * speed
        guard cost.isFinite, cost > 0 else { return 0 }
        let bytes = UInt64(min(cost, Double(most)))
        return (bytes + unit - 1) / unit * unit
    }

    /// The middle one; of two in the middle the smaller.
    public static func middle(_ costs: [UInt64]) -> UInt64? {
        costs.isEmpty ? nil : costs.sorted()[(costs.count - 1) / 2]
    }

    /// Measures each device that can be; nil where none can. A device that fails here is told of
    /// by the run.
    public static func measured(
        _ devices: [(device: BackupDevice, rate: UInt64?)], isCancelled: () -> Bool
    ) -> UInt64? {
        var costs: [UInt64] = []
        for (device, rate) in devices where !isCancelled() {
            if let timing = try? device.timing() { costs.append(bytes(timing, rate: rate)) }
        }
        return middle(costs)
    }

    /// Runs `small` for each of a few small files and `large` once, and says how long they took.
    /// `sync` is called behind each of both.
    public static func timing(
        small: (Int, UnsafeRawBufferPointer) throws(DeviceFailure) -> Void,
        large: (UnsafeRawBufferPointer) throws(DeviceFailure) -> Void,
        sync: () throws(DeviceFailure) -> Void
    ) throws(DeviceFailure) -> DeviceTiming {
        let buffer = AlignedBuffer(count: largeBytes)
        // Not zeros: some devices store these at no cost.
        for i in stride(from: 0, to: largeBytes, by: 8) {
            buffer.bytes.storeBytes(
                of: UInt64(i) &* 0x9E37_79B9_7F4A_7C15, toByteOffset: i, as: UInt64.self)
        }
        let piece = UnsafeRawBufferPointer(rebasing: buffer.bytes[..<smallBytes])
        try sync()
        let start = clinux_monotonic_ns()
        for i in 0..<smallCount { try small(i, piece) }
        try sync()
        let middle = clinux_monotonic_ns()
        try large(UnsafeRawBufferPointer(buffer.bytes))
        try sync()
        let end = clinux_monotonic_ns()
        let speed = Double(largeBytes) / (Double(max(1, end - middle)) / 1e9)
        return DeviceTiming(
            secondsPerFile: Double(max(1, middle - start)) / 1e9 / Double(smallCount),
            bytesPerSecond: speed)
    }

    private static let smallCount = 24
    private static let smallBytes = 4096
    private static let largeBytes = 8 << 20
}

extension FolderDevice {
    /// In a folder of its own, `.measure`; what an earlier one has left goes, too.
    func measuredTiming() throws(DeviceFailure) -> DeviceTiming {
        let root = try opened()
        let name = Array(".measure".utf8)
        func write(_ bytes: UnsafeRawBufferPointer, _ number: Int) throws(DeviceFailure) {
            try on { () throws(IOError) in
                let item = name + Array("/item".utf8)
                let file = try root.file(
                    item, OpenOptions(.readWrite, creation: .ifMissing), permissions: 0o600)
                try file.write(bytes, at: 0)
                file.close()
                try root.rename(item, to: name + Array("/\(number)".utf8), in: root)
            }
        }
        try on { () throws(IOError) in
            try root.removeTree(name)
            try root.createFolder(name)
        }
        defer { try? root.removeTree(name) }
        return try ItemCost.timing(
            small: { number, bytes throws(DeviceFailure) in try write(bytes, number) },
            large: { bytes throws(DeviceFailure) in try write(bytes, -1) },
            sync: { () throws(DeviceFailure) in
                try on { () throws(IOError) in try root.syncFileSystem() }
            })
    }
}
