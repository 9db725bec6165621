// The threshold of the source documents (S32): what each device would take if all took the same.

/// ceil(total / available).
public enum Threshold {
    /// nil without a device.
    public static func bytes(total: UInt64, available: Int) -> UInt64? {
        guard available > 0 else { return nil }
        let count = UInt64(available)
        return total / count + (total % count == 0 ? 0 : 1)
    }
}
