//! The terminal: lines are drawn over those before, keys come one by one, and in the end everything
//! is as it was.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{cursor, queue};
use tokio::sync::mpsc;

use super::text::{Line, Look};

/// A terminal that is drawn on. Dropped, it is given back as it was.
#[derive(Debug)]
pub(super) struct Screen {
    wishes: mpsc::Receiver<Wish>,
    ended: Arc<AtomicBool>,
}

/// What the person at the terminal wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To see it drawn anew: the terminal has another size.
    Draw,
    /// To go.
    Quit,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        let ended = Arc::new(AtomicBool::new(false));
        let (tell, wishes) = mpsc::channel(8);
        // From here on it is given back whatever happens.
        let screen = Self {
            wishes,
            ended: Arc::clone(&ended),
        };
        let mut out = io::stdout();
        queue!(out, EnterAlternateScreen, cursor::Hide)?;
        out.flush()?;
        std::thread::spawn(move || listen(&tell, &ended));
        Ok(screen)
    }

    /// Draws as many of the lines as have room.
    pub(super) fn draw(&self, lines: &[Line]) -> io::Result<()> {
        let (width, height) = terminal::size()?;
        let width = usize::from(width);
        let mut page = Vec::new();
        for (row, line) in (0..height).zip(lines) {
            queue!(page, cursor::MoveTo(0, row))?;
            match line.look {
                Look::Bad => queue!(page, SetForegroundColor(Color::Red))?,
                Look::Heading => queue!(page, SetAttribute(Attribute::Bold))?,
                Look::Plain => {}
            }
            let text: String = line.text.chars().take(width).collect();
            queue!(
                page,
                Print(text),
                ResetColor,
                SetAttribute(Attribute::Reset)
            )?;
            queue!(page, Clear(ClearType::UntilNewLine))?;
        }
        if lines.len() < usize::from(height) {
            queue!(
                page,
                cursor::MoveToNextLine(1),
                Clear(ClearType::FromCursorDown)
            )?;
        }
        // At once, so that nobody sees half a page.
        let mut out = io::stdout();
        out.write_all(&page)?;
        out.flush()
    }

    /// Waits for a wish.
    pub(super) async fn wish(&mut self) -> Wish {
        // Nobody listens any more: the terminal is gone.
        self.wishes.recv().await.unwrap_or(Wish::Quit)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let mut out = io::stdout();
        // A terminal that is gone need not be given back.
        let _gone = queue!(out, cursor::Show, LeaveAlternateScreen);
        let _gone = out.flush();
        let _gone = disable_raw_mode();
    }
}

/// Reads keys on a thread of its own until the screen is gone.
fn listen(tell: &mpsc::Sender<Wish>, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        let wish = match event::poll(LOOK) {
            Ok(false) => continue,
            Ok(true) => event::read().map(wish),
            Err(error) => Err(error),
        };
        match wish {
            Ok(None) => {}
            Ok(Some(wish)) => {
                if tell.blocking_send(wish).is_err() {
                    return;
                }
            }
            Err(_gone) => return,
        }
    }
}

fn wish(event: Event) -> Option<Wish> {
    match event {
        Event::Resize(..) => Some(Wish::Draw),
        Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Wish::Quit),
            // Without its own handling in the terminal it is a key like others.
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
            _ => None,
        },
        _ => None,
    }
}

/// How often the thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn some_keys_end_it_and_others_do_nothing() {
        let key = |code, modifiers| wish(Event::Key(KeyEvent::new(code, modifiers)));
        let none = KeyModifiers::NONE;
        assert_eq!(key(KeyCode::Char('q'), none), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Esc, none), Some(Wish::Quit));
        let interrupt = key(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(interrupt, Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('c'), none), None);
        assert_eq!(wish(Event::Resize(80, 24)), Some(Wish::Draw));
    }
}
