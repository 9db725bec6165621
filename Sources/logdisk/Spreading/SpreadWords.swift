// What the spread commands say: for people, and as JSON.

import CommandText
import Foundation
import Spread
import Synchronization

extension DeviceFailure {
    var isDenied: Bool { if case .denied = self { true } else { false } }
}

extension CommandFailure {
    static let deniedHint = "look at token-file= and ca=; logdisk access list STORE at the server"

    init(_ error: JobFailure, set: String) {
        switch error {
        case .plan(let cause):
            self.init(cause, object: set)
        case .setExists(let devices):
            self.init(
                .usage, set, "there is a set of this name",
                cause: "on \(devices.joined(separator: ", "))",
                hint: "choose another name, or logdisk spread forget --set \(set)")
        case .noDevice(let failures):
            let words = failures.map { "\($0.device) is \($0.failure.word): \($0.failure.reason)" }
            let isDenied = failures.allSatisfy { $0.failure.isDenied }
            self.init(
                isDenied ? .refused : .unreachable, set, "no device can be used",
                cause: words.joined(separator: "; "),
                hint: isDenied ? Self.deniedHint : "mount or attach them, then try again")
        case .sourcesChanged(let what):
            self.init(
                .failed, set, "the sources are not those of the plan", cause: what,
                hint: "plan again with logdisk spread plan")
        case .otherDevices(let planned):
            self.init(
                .usage, set, "these are not the devices of the plan",
                cause: "planned: \(planned.joined(separator: " "))",
                hint: "give these devices, in this order")
        }
    }
}

enum SpreadWords {
    static func line(_ event: SpreadEvent) -> String? {
        switch event {
        case .deviceFailed(let device, let word, let reason):
            "\(device) is \(word): \(reason)"
        case .replanned(let items, let bytes, let devices):
            "planned again: \(items) items, \(ByteSize(bytes: bytes)), over "
                + devices.joined(separator: ", ")
        case .sourceUnreadable(let path, let reason): "\(path): \(reason)"
        default: nil
        }
    }

    static func text(_ set: String, _ report: SpreadReport, seconds: Double) -> String {
        let time = DurationText(seconds: Int64(seconds.rounded(.up)))
        var text =
            "set \(set): \(report.files) files, \(ByteSize(bytes: report.totalBytes)), in \(time)\n"
        var table = TextTable([.left, .right, .right, .left])
        for device in report.devices {
            table.add([
                "  " + device.name, "\(device.items) items", "\(ByteSize(bytes: device.bytes))",
                device.isComplete
                    ? device.failure.map { $0.word } ?? "complete"
                    : device.failure.map { $0.word + ", left out" } ?? "left out",
            ])
        }
        text += table.text
        return text
    }

    static func failures(_ report: SpreadReport) -> String {
        let words = report.devices.compactMap { device in
            device.failure.map { "\(device.name) is \($0.word): \($0.reason)" }
        }
        return words.isEmpty ? "no device is left" : words.joined(separator: "; ")
    }

    private static let linesMax = 100

    static func missing(_ set: String, _ missing: [SpreadReport.Missing]) -> String {
        var lines = ["logdisk: spread run \(set): done, but \(missing.count) are missing:"]
        for item in missing.prefix(linesMax) {
            let range = item.offset == 0 ? "" : " from byte \(item.offset), \(item.size) bytes"
            lines.append("  \(item.path)\(range): \(item.reason)")
        }
        if missing.count > linesMax {
            lines.append("  and \(missing.count - linesMax) more; --json lists all")
        }
        lines.append("hint: logdisk spread list shows the set")
        return lines.joined(separator: "\n")
    }
}

/// All devices as one bar on a terminal: each with its share.
final class SpreadProgress {
    private let isSilent: Bool
    private var isShown = false

    init(isSilent: Bool) { self.isSilent = isSilent || !Terminal.errorIsTerminal }

    func show(_ devices: [DeviceProgress]) {
        guard !isSilent else { return }
        let parts = devices.map { device -> String in
            let share =
                device.plannedBytes == 0
                ? 1 : Double(device.doneBytes) / Double(device.plannedBytes)
            let cells = Int(min(share, 1) * 10)
            let bar =
                String(repeating: "#", count: cells) + String(repeating: ".", count: 10 - cells)
            let name = device.name.split(separator: "/").last.map(String.init) ?? device.name
            return device.isLost
                ? "\(name) [  gone  ]" : "\(name) [\(bar)] \(Int(min(share, 1) * 100))%"
        }
        let line = String(parts.joined(separator: "  ").prefix(max(0, Terminal.width - 1)))
        Terminal.write("\r\u{1B}[K" + line, to: 2)
        isShown = true
    }

    func finish() {
        guard isShown else { return }
        Terminal.write("\r\u{1B}[K", to: 2)
        isShown = false
    }
}

/// Events of a run as lines of JSON, with the time since the start. Any thread may write.
final class EventLog: Sendable {
    private let descriptor: Int32
    private let start = ContinuousClock.now
    private let lock = Mutex(())

    init(_ path: String) throws(CommandFailure) {
        descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw CommandFailure(
                .failed, "", "cannot write \(path)", cause: String(cString: strerror(errno)))
        }
    }

    deinit { close(descriptor) }

    func write(_ event: SpreadEvent) {
        lock.withLock { _ in
            let line = EventJSON(seconds: start.seconds(to: .now), event)
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            guard let data = try? encoder.encode(line) else { return }
            Terminal.write(String(decoding: data, as: UTF8.self) + "\n", to: descriptor)
        }
    }

    private struct EventJSON: Encodable {
        var seconds: Double
        var event: String
        var device: String?
        var path: String?
        var offset: UInt64?
        var size: UInt64?
        var items: Int?
        var reason: String?

        init(seconds: Double, _ event: SpreadEvent) {
            self.seconds = seconds
            self.event = event.word
            switch event {
            case .deviceReady(let device, let items): (self.device, self.items) = (device, items)
            case .itemStarted(let device, let path, let offset, let size),
                .itemWritten(let device, let path, let offset, let size):
                (self.device, self.path, self.offset, self.size) = (device, path, offset, size)
            case .deviceFailed(let device, let word, let reason):
                (self.device, self.reason) = (device, "\(word): \(reason)")
            case .replanned(let items, let bytes, _), .unplaced(let items, let bytes):
                (self.items, size) = (items, bytes)
            case .sourceChanged(let path, let attempt): (self.path, items) = (path, attempt)
            case .sourceUnreadable(let path, let reason):
                (self.path, self.reason) = (path, reason)
            case .manifestWritten(let device), .deviceComplete(let device): self.device = device
            }
        }
    }
}

struct SpreadRunJSON: Encodable {
    struct Device: Encodable {
        var name: String
        var items: Int
        var bytes: UInt64
        var complete: Bool
        var failure: String?
    }
    struct Missing: Encodable {
        var path: String
        var offset: UInt64
        var size: UInt64
        var reason: String
    }
    var set: String
    var complete: Bool
    var files: Int
    var bytes: UInt64
    var seconds: Double
    /// What a file counted besides its bytes, given or measured.
    var itemCost: UInt64
    var devices: [Device]
    var missing: [Missing]

    enum CodingKeys: String, CodingKey {
        case set, complete, files, bytes, seconds, devices, missing
        case itemCost = "item_cost"
    }

    init(set: String, _ report: SpreadReport, itemCost: UInt64, seconds: Double) {
        self.set = set
        self.seconds = seconds
        self.itemCost = itemCost
        (complete, files, bytes) = (report.isComplete, report.files, report.totalBytes)
        devices = report.devices.map { device in
            Device(
                name: device.name, items: device.items, bytes: device.bytes,
                complete: device.isComplete,
                failure: device.failure.map { "\($0.word): \($0.reason)" })
        }
        missing = report.missing.map {
            Missing(path: $0.path, offset: $0.offset, size: $0.size, reason: $0.reason)
        }
    }
}
