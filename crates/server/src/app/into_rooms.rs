//! Room names as arguments: one or several.

use roomcast_core::{Room, SocketId};

/// One or several room names.
pub trait IntoRooms {
    /// Appends the rooms to a list.
    fn add_to(self, rooms: &mut Vec<Room>);
}

macro_rules! one_room {
    ($($one:ty),*) => {$(
        impl IntoRooms for $one {
            fn add_to(self, rooms: &mut Vec<Room>) {
                rooms.push(self.into());
            }
        }
    )*};
}

one_room!(&str, String, Room, &SocketId);

impl IntoRooms for &&str {
    fn add_to(self, rooms: &mut Vec<Room>) {
        rooms.push((*self).into());
    }
}

impl IntoRooms for &String {
    fn add_to(self, rooms: &mut Vec<Room>) {
        rooms.push(self.as_str().into());
    }
}

impl IntoRooms for &Room {
    fn add_to(self, rooms: &mut Vec<Room>) {
        rooms.push(self.clone());
    }
}

impl<R: IntoRooms, const N: usize> IntoRooms for [R; N] {
    fn add_to(self, rooms: &mut Vec<Room>) {
        self.into_iter().for_each(|room| room.add_to(rooms));
    }
}

impl<R: IntoRooms> IntoRooms for Vec<R> {
    fn add_to(self, rooms: &mut Vec<Room>) {
        self.into_iter().for_each(|room| room.add_to(rooms));
    }
}

impl<'a, R> IntoRooms for &'a [R]
where
    &'a R: IntoRooms,
{
    fn add_to(self, rooms: &mut Vec<Room>) {
        self.iter().for_each(|room| room.add_to(rooms));
    }
}

impl<'a, R> IntoRooms for &'a Vec<R>
where
    &'a R: IntoRooms,
{
    fn add_to(self, rooms: &mut Vec<Room>) {
        self.as_slice().add_to(rooms);
    }
}

/// Collects rooms into a list.
pub(crate) fn into_rooms(rooms: impl IntoRooms) -> Vec<Room> {
    let mut all = Vec::new();
    rooms.add_to(&mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_single_and_multiple_rooms() {
        let (text, id) = (String::from("a"), SocketId::from("b"));
        let rooms = vec![Room::from("c")];
        let names = |rooms: &[Room]| rooms.iter().map(|room| room.to_string()).collect::<String>();
        assert_eq!(names(&into_rooms(&text)) + &names(&into_rooms(&id)) + &names(&into_rooms(&rooms)), "abc");
        assert_eq!(names(&into_rooms(["a", "b"])) + &names(&into_rooms(&["c", "d"][..])), "abcd");
        assert_eq!(names(&into_rooms(vec![&text, &text])), "aa");
    }
}
