// What a run says of itself while it goes on; and what it says at its end.

/// Something that happened in a run. Paths are texts of PathText, below the source's name.
public enum SpreadEvent: Sendable, Hashable {
    case deviceReady(device: String, goesOnWith: Int)
    case itemStarted(device: String, path: String, offset: UInt64, size: UInt64)
    case itemWritten(device: String, path: String, offset: UInt64, size: UInt64)
    /// The device takes no more items, or is gone; `word` is that of DeviceFailure.
    case deviceFailed(device: String, word: String, reason: String)
    case replanned(items: Int, bytes: UInt64, devices: [String])
    case unplaced(items: Int, bytes: UInt64)
    case sourceChanged(path: String, attempt: Int)
    case sourceUnreadable(path: String, reason: String)
    case manifestWritten(device: String)
    case deviceComplete(device: String)

    /// What it is, in a word; for the event log.
    public var word: String {
        switch self {
        case .deviceReady: "device-ready"
        case .itemStarted: "item-started"
        case .itemWritten: "item-written"
        case .deviceFailed: "device-failed"
        case .replanned: "replanned"
        case .unplaced: "unplaced"
        case .sourceChanged: "source-changed"
        case .sourceUnreadable: "source-unreadable"
        case .manifestWritten: "manifest-written"
        case .deviceComplete: "device-complete"
        }
    }
}

/// How a run ended.
public struct SpreadReport: Sendable {
    public struct Device: Sendable, Hashable {
        public var name: String
        public var items: Int
        public var bytes: UInt64
        /// nil while it is well; else the word and the reason of its failure.
        public var failure: DeviceFailure?
        /// The set is visible there.
        public var isComplete: Bool
    }
    public struct Missing: Sendable, Hashable {
        /// Source's name and path, as text.
        public var path: String
        public var offset: UInt64
        public var size: UInt64
        public var reason: String

        public init(path: String, offset: UInt64, size: UInt64, reason: String) {
            (self.path, self.offset, self.size, self.reason) = (path, offset, size, reason)
        }
    }
    public var devices: [Device]
    /// What is not in the set although it was asked for.
    public var missing: [Missing]
    /// False: stopped before; nothing is visible.
    public var isComplete: Bool
    public var totalBytes: UInt64
    public var files: Int
}

/// How far one device is.
public struct DeviceProgress: Sendable, Hashable {
    public var name: String
    public var doneBytes: UInt64
    public var plannedBytes: UInt64
    public var isLost: Bool
}
