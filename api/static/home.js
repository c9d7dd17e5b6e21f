// Hands in without leaving the page, so that a refusal can be read beside the form.
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

// Before it is sent: a server that refuses a body half way often cannot say why, since the connection is gone.
function refuseTooLarge(form) {
  const size = Array.from(form.elements.files.files).reduce((sum, file) => sum + file.size, 0);
  const most = Number(form.dataset.maxBytes);
  if (size > most) {
    throw new Error(`This is ${megabytes(size)}; at most ${megabytes(most)} are accepted. A notebook gets smaller when its output is cleared.`);
  }
}

// What a refusal says: the server in its own words, a proxy before it by its status.
async function words(answer) {
  try {
    return (await answer.json()).detail;
  } catch {
    if (answer.status === 413) return "This is larger than the server accepts. A notebook gets smaller when its output is cleared.";
    return `The server answered ${answer.status}. Nothing was handed in; try again in a moment.`;
  }
}

for (const form of document.querySelectorAll("form[data-action]")) {
  const problem = form.querySelector(".problem");
  const button = form.querySelector("button");
  let key = null; // one key per attempt: a repeated click after a lost answer is no second submission
  form.addEventListener("change", () => { key = null; problem.hidden = true; });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    key ??= Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    button.disabled = true;
    problem.hidden = true;
    try {
      refuseTooLarge(form);
      const answer = await fetch(form.dataset.action, {
        method: "POST", body: new FormData(form), headers: { "Idempotency-Key": key },
      });
      if (!answer.ok) throw new Error(await words(answer));
      location.assign((await answer.json()).links.page);
    } catch (error) {
      problem.textContent = error instanceof TypeError ? "The server does not answer. Try again in a moment." : error.message;
      problem.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
}
