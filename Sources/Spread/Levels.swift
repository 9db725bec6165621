// How much each device should carry: the water level. Pour an amount over vessels as wide as the
// devices' weights, whose floors are what they hold and whose brims are their capacities: all end
// at one level, but for those that are full before or stood above it. In whole bytes, exactly.

enum Levels {
    struct Vessel {
        /// Load that is there already.
        var floor: UInt64
        /// The most load; at least `floor`.
        var brim: UInt64
        /// 1 to SpreadDevice.weightMax.
        var weight: UInt64
    }

    struct Poured {
        /// The load of each vessel; their sum is exactly the floors and the amount.
        var loads: [UInt64]
        /// The level in each vessel, rounded up to whole bytes: a load or one byte more.
        var limits: [UInt64]
    }

    /// Pours `amount`; nil when it does not fit.
    static func pour(_ amount: UInt64, into vessels: [Vessel]) -> Poured? {
        let space = vessels.reduce(Int128(0)) { $0 + Int128($1.brim - $1.floor) }
        guard Int128(amount) <= space else { return nil }
        guard amount > 0, let (height, width) = level(Int128(amount), vessels) else {
            return Poured(loads: vessels.map(\.floor), limits: vessels.map(\.floor))
        }
        var result: [UInt64] = []
        var surplus = -Int128(amount)
        for vessel in vessels {
            // ceil(weight * height / width), between floor and brim.
            let share = (Int128(vessel.weight) * height + width - 1) / width
            let load = min(max(share, Int128(vessel.floor)), Int128(vessel.brim))
            surplus += load - Int128(vessel.floor)
            result.append(UInt64(load))
        }
        let limits = result
        // Rounding up made at most one byte too many in each vessel that took anything.
        for index in vessels.indices.reversed() where surplus > 0 {
            if result[index] > vessels[index].floor && isRounded(vessels[index], height, width) {
                result[index] -= 1
                surplus -= 1
            }
        }
        return Poured(loads: result, limits: limits)
    }

    private static func isRounded(_ vessel: Vessel, _ height: Int128, _ width: Int128) -> Bool {
        let product = Int128(vessel.weight) * height
        return product % width != 0 && product < Int128(vessel.brim) * width
    }

    /// The level as height/width: every vessel's load is weight * height / width where that is
    /// between its floor and brim. All products stay below 2^127: loads of all devices are below
    /// 2^80, weights at most 2^40, their sum below 2^56 and no load above 2^64.
    private static func level(
        _ amount: Int128, _ vessels: [Vessel]
    ) -> (height: Int128, width: Int128)? {
        struct Bend {
            var load: UInt64
            var vessel: Int
            var isBrim: Bool
        }
        var bends: [Bend] = []
        for (index, vessel) in vessels.enumerated() where vessel.brim > vessel.floor {
            bends.append(Bend(load: vessel.floor, vessel: index, isBrim: false))
            bends.append(Bend(load: vessel.brim, vessel: index, isBrim: true))
        }
        bends.sort { a, b in
            let left = Int128(a.load) * Int128(vessels[b.vessel].weight)
            let right = Int128(b.load) * Int128(vessels[a.vessel].weight)
            if left != right { return left < right }
            return (a.vessel, a.isBrim ? 1 : 0) < (b.vessel, b.isBrim ? 1 : 0)
        }
        // Between two bends, poured(level) = width * level - missing.
        var width: Int128 = 0
        var missing: Int128 = 0
        for bend in bends {
            let weight = Int128(vessels[bend.vessel].weight)
            if width > 0, width * Int128(bend.load) >= (amount + missing) * weight {
                return (amount + missing, width)
            }
            width += bend.isBrim ? -weight : weight
            missing += bend.isBrim ? -Int128(bend.load) : Int128(bend.load)
        }
        return nil
    }
}
