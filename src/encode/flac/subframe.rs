//! One channel of one block: choice of predictor and Rice parameters, and their bits (RFC 9639, section 9.2).

use super::bits::BitWriter;

/// Orders of the fixed predictors: 0 to 4.
pub(super) const ORDERS: usize = 5;

/// A block is cut into at most `1 << MAX_PARTITION_ORDER` partitions with a Rice parameter each. Of speech, 3
/// instead of 5 takes 4.8 % more bytes, 4 takes 1.4 % more, and 6 takes 0.06 % fewer; of a chord, all take
/// the same.
const MAX_PARTITION_ORDER: u32 = 5;
const MAX_PARTITIONS: usize = 1 << MAX_PARTITION_ORDER;

/// The largest Rice parameter that 4 bits can say; 15 would mean unencoded samples. From 5 bits, up to 30.
const LARGEST_SHORT_PARAMETER: u8 = 14;

/// The sums of the absolute residuals of a block by predictor order, of the samples from the fifth on.
#[derive(Clone, Copy, Default)]
pub(super) struct OrderSums([u64; ORDERS]);

impl OrderSums {
    /// Returns the sums for samples of `bits` bits, at most 25.
    ///
    /// The loop has no dependencies between samples, so that the compiler makes vector instructions of it.
    pub(super) fn of(samples: &[i32], bits: u32) -> OrderSums {
        let mut sums = [0; ORDERS];
        let Some(count) = samples.len().checked_sub(ORDERS - 1) else { return OrderSums(sums) };
        // A residual of order 4 has up to 4 bits more than a sample: so many of them fit into 32 bits.
        let piece = 1usize << (32 - (bits + 3));
        let mut start = 0;
        while start < count {
            let length = piece.min(count - start);
            let end = start + length;
            let (a, b, c, d, e) = (
                &samples[start + 4..end + 4],
                &samples[start + 3..end + 3],
                &samples[start + 2..end + 2],
                &samples[start + 1..end + 1],
                &samples[start..end],
            );
            let mut partial = [0u32; ORDERS];
            for n in 0..length {
                let (first, second, third, fourth) = (a[n] - b[n], b[n] - c[n], c[n] - d[n], d[n] - e[n]);
                let (of_first, of_second, of_third) = (first - second, second - third, third - fourth);
                let (of_two, of_next_two) = (of_first - of_second, of_second - of_third);
                partial[0] += a[n].unsigned_abs();
                partial[1] += first.unsigned_abs();
                partial[2] += of_first.unsigned_abs();
                partial[3] += of_two.unsigned_abs();
                partial[4] += (of_two - of_next_two).unsigned_abs();
            }
            for (sum, partial) in sums.iter_mut().zip(partial) {
                *sum += u64::from(partial);
            }
            start = end;
        }
        OrderSums(sums)
    }

    /// Returns the order with the smallest sum, the lowest of equal ones.
    fn best(&self) -> usize {
        (1..ORDERS).fold(0, |best, order| if self.0[order] < self.0[best] { order } else { best })
    }

    /// Returns the smallest sum.
    pub(super) fn least(&self) -> u64 {
        self.0[self.best()]
    }
}

/// The way in which a subframe stores its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// One value for all.
    Constant,
    /// Every sample as it is.
    Verbatim,
    /// Residuals of the predictor of that order, Rice coded in `1 << partition_order` partitions.
    Fixed { order: usize, partition_order: u32 },
}

/// The plan of a subframe: made by [`Subframe::plan`], perhaps changed by [`Subframe::raise`], written by
/// [`Subframe::write`].
pub(super) struct Subframe {
    coding: Coding,
    /// Bits of one sample, without those that are 0 in the whole block.
    bits: u32,
    /// Residuals, zigzag coded: 0, -1, 1, -2, … become 0, 1, 2, 3, …
    residual: Vec<u32>,
    /// Rice parameters of the partitions.
    parameters: [u8; MAX_PARTITIONS],
    /// Estimate of the bits that will be written.
    cost: u64,
}

impl Subframe {
    /// Returns a subframe that does not allocate for blocks up to `frames` samples.
    pub(super) fn with_capacity(frames: usize) -> Self {
        Subframe {
            coding: Coding::Verbatim,
            bits: 0,
            residual: Vec::with_capacity(frames),
            parameters: [0; MAX_PARTITIONS],
            cost: 0,
        }
    }

    /// Chooses the coding of these samples of `bits` bits, which have these sums. Never takes more bits than
    /// the samples themselves.
    pub(super) fn plan(&mut self, samples: &[i32], bits: u32, sums: &OrderSums) {
        self.bits = bits;
        let verbatim = samples.len() as u64 * u64::from(bits);
        (self.coding, self.cost) = (Coding::Verbatim, verbatim);
        if samples.len() < ORDERS {
            return;
        }
        if sums.0[1] == 0 && samples[..ORDERS].iter().all(|sample| *sample == samples[0]) {
            (self.coding, self.cost) = (Coding::Constant, bits.into());
            return;
        }
        let order = sums.best();
        fill_residual(samples, order, &mut self.residual);
        let rice = RicePlan::of(&self.residual, order);
        let warm_up = order as u64 * u64::from(bits);
        if warm_up + rice.most < verbatim {
            self.coding = Coding::Fixed { order, partition_order: rice.partition_order };
            self.cost = warm_up + rice.likely;
            self.parameters = rice.parameters;
        }
    }

    /// Returns an estimate of the bits that will be written.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Codes residuals with at least this Rice parameter, so that each sample takes at least `parameter + 1`
    /// bits.
    pub(super) fn raise(&mut self, samples: &[i32], parameter: u8) {
        match self.coding {
            Coding::Verbatim => {}
            Coding::Constant => {
                // Of silence, order 0 leaves nothing; of any other constant, order 1.
                let order = usize::from(samples[0] != 0);
                fill_residual(samples, order, &mut self.residual);
                self.coding = Coding::Fixed { order, partition_order: 0 };
                self.parameters[0] = parameter;
            }
            Coding::Fixed { partition_order, .. } => {
                for own in &mut self.parameters[..1 << partition_order] {
                    *own = parameter.max(*own);
                }
            }
        }
    }

    /// Writes the subframe. `wasted` bits at the lower end of every sample are 0 and are not in `samples` any
    /// more.
    pub(super) fn write(&self, samples: &[i32], wasted: u32, out: &mut BitWriter) {
        let kind = match self.coding {
            Coding::Constant => 0,
            Coding::Verbatim => 1,
            Coding::Fixed { order, .. } => 8 + order as u32,
        };
        out.put(kind << 1 | u32::from(wasted > 0), 8);
        if wasted > 0 {
            out.put_unary(wasted - 1);
        }
        match self.coding {
            Coding::Constant => out.put_signed(samples[0], self.bits),
            Coding::Verbatim => samples.iter().for_each(|sample| out.put_signed(*sample, self.bits)),
            Coding::Fixed { order, partition_order } => {
                samples[..order].iter().for_each(|sample| out.put_signed(*sample, self.bits));
                self.write_residual(samples.len(), order, partition_order, out);
            }
        }
    }

    fn write_residual(&self, frames: usize, order: usize, partition_order: u32, out: &mut BitWriter) {
        let parameters = &self.parameters[..1 << partition_order];
        let long = parameters.iter().any(|parameter| *parameter > LARGEST_SHORT_PARAMETER);
        out.put(u32::from(long), 2);
        out.put(partition_order, 4);
        let (mut rest, mut length) = (&self.residual[..], (frames >> partition_order) - order);
        for parameter in parameters {
            out.put((*parameter).into(), if long { 5 } else { 4 });
            let (partition, others) = rest.split_at(length);
            for value in partition {
                out.put_rice(*value, (*parameter).into());
            }
            (rest, length) = (others, frames >> partition_order);
        }
    }
}

/// Replaces `residual` by the zigzag coded residuals of the predictor of that order: `order` fewer than
/// samples.
fn fill_residual(samples: &[i32], order: usize, residual: &mut Vec<u32>) {
    // Residuals have at most 29 bits, so that nothing overflows.
    let zigzag = |value: i32| (value << 1 ^ value >> 31) as u32;
    let [b, c, d, e] = [1, 2, 3, 4].map(|offset: usize| &samples[offset.min(samples.len())..]);
    residual.clear();
    match order {
        0 => residual.extend(samples.iter().map(|a| zigzag(*a))),
        1 => residual.extend(samples.iter().zip(b).map(|(a, b)| zigzag(b - a))),
        2 => residual.extend(samples.iter().zip(b).zip(c).map(|((a, b), c)| zigzag(c - 2 * b + a))),
        3 => residual
            .extend(samples.iter().zip(b).zip(c).zip(d).map(|(((a, b), c), d)| zigzag(d - a + 3 * (b - c)))),
        _ => residual.extend(
            samples
                .iter()
                .zip(b)
                .zip(c)
                .zip(d)
                .zip(e)
                .map(|((((a, b), c), d), e)| zigzag(e + a - 4 * (d + b) + 6 * c)),
        ),
    }
}

/// The partitions of a residual and their parameters.
struct RicePlan {
    partition_order: u32,
    parameters: [u8; MAX_PARTITIONS],
    /// Estimated bits.
    likely: u64,
    /// Upper bound of the bits.
    most: u64,
}

impl RicePlan {
    /// Chooses among all numbers of partitions that divide the block.
    fn of(residual: &[u32], order: usize) -> RicePlan {
        let frames = residual.len() + order;
        let mut partition_order = frames.trailing_zeros().min(MAX_PARTITION_ORDER);
        // The first partition lacks the warm-up samples and must not be empty.
        while partition_order > 0 && frames >> partition_order <= order {
            partition_order -= 1;
        }
        let mut sums = [0u64; MAX_PARTITIONS];
        let (mut rest, mut length) = (residual, (frames >> partition_order) - order);
        for sum in &mut sums[..1 << partition_order] {
            let (partition, others) = rest.split_at(length);
            *sum = partition.iter().map(|value| u64::from(*value)).sum();
            (rest, length) = (others, frames >> partition_order);
        }
        let mut best = RicePlan::with(&sums, frames, order, partition_order);
        while partition_order > 0 {
            partition_order -= 1;
            for n in 0..1 << partition_order {
                sums[n] = sums[2 * n] + sums[2 * n + 1];
            }
            let coarser = RicePlan::with(&sums, frames, order, partition_order);
            if coarser.likely <= best.likely {
                best = coarser;
            }
        }
        best
    }

    /// Chooses the parameters for partitions with these sums of values.
    #[inline(always)]
    fn with(sums: &[u64; MAX_PARTITIONS], frames: usize, order: usize, partition_order: u32) -> RicePlan {
        let mut plan = RicePlan { partition_order, parameters: [0; MAX_PARTITIONS], likely: 0, most: 0 };
        let (length, mut correction) = ((frames >> partition_order) as u64, 0);
        let partitions = 1 << partition_order;
        for (n, sum) in sums[..partitions].iter().enumerate() {
            let count = if n == 0 { length - order as u64 } else { length };
            let parameter = best_parameter(*sum, count);
            plan.most += count * u64::from(parameter + 1) + (sum >> parameter);
            // The quotients' fractions are lost: about half a bit for each value.
            correction += if parameter > 0 { count >> 1 } else { 0 };
            plan.parameters[n] = parameter as u8;
        }
        // Five bits for each parameter, and the two fields in front of them.
        plan.most += 5 * partitions as u64 + 6;
        plan.likely = plan.most - correction;
        plan
    }
}

/// Returns the Rice parameter for `count` values with this sum: the logarithm of their mean, rounded down,
/// which costs within a twentieth of a bit of the best one if the values are distributed geometrically.
#[inline(always)]
fn best_parameter(sum: u64, count: u64) -> u32 {
    if sum < 2 * count {
        return 0;
    }
    let parameter = sum.ilog2() - count.ilog2();
    if count << parameter > sum { parameter - 1 } else { parameter }
}
