// What a shipper tells of itself.

import History

/// A remote at one moment.
public struct ShipStatus: Sendable {
    public var name: String
    public var label: String
    public var interface: String?
    public var isPaused = false
    /// What it does right now, and why.
    public var decision: ShipDecision
    public var decisions: [ShipDecisionRecord]
    public var memory: ShipMemory
    /// Newest durable minus newest acknowledged.
    public var lagRecords: UInt64
    public var lagBytes: UInt64
    public var lagSeconds: Int64
    /// The segment under way, and how much of it has gone.
    public var sending: (name: String, progress: WorkProgress)?
    /// Since the start: bytes handed to the network, and segments acknowledged.
    public var shippedBytes: UInt64
    public var shippedSegments: UInt64
    /// What went wrong at last, if nothing has gone well since.
    public var failure: String?
    /// Nothing helps but the user.
    public var needsUser = false
    public var isHoldingWriters = false
    public var settings: ShipSettings
    public var keep: String?
}
