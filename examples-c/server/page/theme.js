// Runs before the first paint, so that a chosen theme does not flash; without one the system decides.
'use strict';
try {
  const theme = localStorage.getItem('powerinfer.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's theme.
}
