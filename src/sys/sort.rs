//! Sorting a few things, in few bytes.
//!
//! The standard library's sort is made for many: five kilobytes of code for each type that is sorted. What a
//! configuration or a board has to be sorted is counted on one hand, and the whole program has to be small.

/// Sorts by a key; what has equal keys stays in order. Takes time by the square of how many there are.
pub(crate) fn sort_few<T, K: Ord>(list: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..list.len() {
        let mut at = end;
        while at > 0 && key(&list[at - 1]) > key(&list[at]) {
            list.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sorts_as_the_standard_library_does() {
        let lists: [&[(u8, char)]; 4] =
            [&[], &[(1, 'a')], &[(2, 'a'), (1, 'b'), (2, 'c'), (1, 'd')], &[(3, 'a'), (2, 'b'), (1, 'c')]];
        for list in lists {
            let (mut ours, mut theirs) = (list.to_vec(), list.to_vec());
            sort_few(&mut ours, |(number, _)| *number);
            theirs.sort_by_key(|(number, _)| *number);
            assert_eq!(ours, theirs);
        }
    }
}
