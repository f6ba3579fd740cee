// Gradio's buttons below a picture and a recording only choose where the next one comes from: "Upload" opens
// nothing, and none does anything while there is a file. Here they do what they say, and a file stays until
// another was chosen.
addEventListener('click', event => {
  const button = event.target.closest('#portrait .source-selection button, #speech .source-selection button');
  if (!button || !event.isTrusted) return;
  event.stopPropagation();
  const box = button.closest('.block'), name = button.getAttribute('aria-label');
  const soon = (find, then, tries = 40) => {
    const found = find();
    if (found) then(found); else if (tries) setTimeout(soon, 50, find, then, tries - 1);
  };
  const remove = () => box.querySelector('button[aria-label="Remove Image"], button[aria-label="Clear"]')?.click();
  const choose = () => box.querySelector(`.source-selection button[aria-label="${name}"]`)?.click();
  const input = () => box.querySelector('input[type=file]');
  const empty = () => !box.querySelector('.image-frame, .waveform-container');
  if (name !== 'Upload file') { remove(); soon(empty, choose); return; }
  const chooser = document.createElement('input');
  chooser.type = 'file';
  chooser.accept = box.id === 'portrait' ? 'image/*' : 'audio/*';
  chooser.addEventListener('change', () => {
    remove();
    soon(empty, () => {
      if (!input()) choose();
      soon(input, found => {
        found.files = chooser.files;
        found.dispatchEvent(new Event('change', {bubbles: true}));
      });
    });
  });
  chooser.click();
}, true);
