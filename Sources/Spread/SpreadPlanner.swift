// The planner: sizes in, assignment out. Pure and deterministic: no clock, no random numbers, no
// hash order; the same input gives the same plan, byte for byte.
//
// Modes, each in a file of its own: split-first and small-first as the source documents claim them
// (docs/requirements.md, S29 to S57), balanced with everything else. docs/spreading.md says what
// each guarantees and why.

public enum SpreadPlanner {
    /// Plans all entries of `sources` over the devices that are available.
    public static func plan(
        _ sources: SourceList, over devices: [SpreadDevice], _ options: SpreadOptions
    ) throws(SpreadError) -> SpreadPlan {
        preconditionFailure()
    }

    /// Something that still has to be written when a device failed in mid-run.
    public struct Remainder: Hashable, Sendable {
        public var entry: Int
        public var offset: UInt64
        public var size: UInt64
        /// Devices that hold, or will get, another copy of it.
        public var holders: [Int]

        public init(entry: Int, offset: UInt64, size: UInt64, holders: [Int] = []) {
            self.entry = entry
            self.offset = offset
            self.size = size
            self.holders = holders
        }
    }

    /// What a new plan says of remainders: items with rule `replanned`, and what fits nowhere.
    public struct Replan: Sendable {
        public var items: SpreadItems
        public var unplaced: [Remainder]
        /// Fill and item counts of all devices after it.
        public var devices: [PlannedDevice]
    }

    /// Plans `remainders` over the devices that are still available; their `fill` and `itemCount`
    /// say what they hold or will get by the plan that stands. Balanced, whatever the first plan's
    /// mode was. No device gets a second copy of what it holds. A remainder that does not fit is
    /// left out as a whole.
    public static func replan(
        _ remainders: [Remainder], over devices: [SpreadDevice], _ options: SpreadOptions
    ) -> Replan {
        preconditionFailure()
    }
}
