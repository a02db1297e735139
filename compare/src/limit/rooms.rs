use std::collections::HashMap;

use super::connection::Gone;

/// Room membership of connections.
#[derive(Default)]
pub(super) struct Rooms {
    index: HashMap<Vec<u8>, u32>,
    members: Vec<Vec<usize>>,
}

impl Rooms {
    /// Joins a connection to a room and records the room in `joined`; a repeated join has no effect.
    pub(super) fn join(&mut self, name: &[u8], connection: usize, joined: &mut Vec<u32>) -> Result<(), Gone> {
        if name.len() > LONGEST_NAME || joined.len() >= ROOMS_PER_CONNECTION {
            return Err(Gone);
        }
        let next = self.members.len() as u32;
        let room = *self.index.entry(name.to_vec()).or_insert(next);
        if room == next {
            self.members.push(Vec::new());
        }
        if !joined.contains(&room) {
            joined.push(room);
            self.members[room as usize].push(connection);
        }
        Ok(())
    }

    /// Removes a connection from all rooms it joined.
    pub(super) fn leave(&mut self, connection: usize, joined: &[u32]) {
        for &room in joined {
            self.members[room as usize].retain(|&member| member != connection);
        }
    }

    pub(super) fn members(&self, name: &[u8]) -> &[usize] {
        self.index.get(name).map_or(&[], |&room| &self.members[room as usize])
    }
}

const LONGEST_NAME: usize = 64;
const ROOMS_PER_CONNECTION: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_joins_and_leaves() {
        let mut rooms = Rooms::default();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        rooms.join(b"a", 1, &mut first).unwrap();
        rooms.join(b"a", 1, &mut first).unwrap();
        rooms.join(b"b", 1, &mut first).unwrap();
        rooms.join(b"a", 2, &mut second).unwrap();
        assert_eq!((rooms.members(b"a"), rooms.members(b"b")), (&[1, 2][..], &[1][..]));
        rooms.leave(1, &first);
        assert_eq!((rooms.members(b"a"), rooms.members(b"b")), (&[2][..], &[][..]));
        assert!(rooms.members(b"c").is_empty());
    }

    #[test]
    fn bounds_rooms_per_connection() {
        let (mut rooms, mut joined) = (Rooms::default(), Vec::new());
        let joins = (0_u32..1000).take_while(|room| rooms.join(&room.to_be_bytes(), 0, &mut joined).is_ok());
        assert_eq!(joins.count(), ROOMS_PER_CONNECTION);
        assert_eq!(Rooms::default().join(&[b'x'; 65], 0, &mut Vec::new()), Err(Gone));
    }
}
