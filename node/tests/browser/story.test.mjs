// A day in two shops' tills and at the head office, as people do it: everything below is clicked and read in a browser.
import test, { after, before } from "node:test";
import assert from "node:assert/strict";
import { Company, browser, logIn, sound, PATIENCE } from "./company.mjs";

let company, hub, one, two, chrome, first, second, desk, anna;
const receipts = {};

before(async () => {
  company = new Company();
  hub = await company.hub();
  anna = company.person("anna", "reviewer");
  [one, two] = [await company.till("high-street", "till-01"), await company.till("high-street", "till-02")];
  chrome = await browser();
  [first, second, desk] = [await chrome.open(), await chrome.open(), await chrome.open()];
});
after(async () => {
  await chrome?.close();
  await company?.end();
});

async function says(page, text) {
  await page.getByText(text).first().waitFor({ timeout: PATIENCE });
}
async function sell(page, till, what, price, how = "Cash") {
  await page.goto(till.url);
  await page.getByLabel("What").first().fill(what);
  await page.getByLabel("How many").first().fill("2");
  await page.getByLabel("Price of one").first().fill(price);
  await page.getByLabel("Tax in it").first().fill("20");
  await page.getByLabel("Operator").fill("op-7");
  await page.getByRole("button", { name: how, exact: true }).click();
  await page.waitForURL(/\/receipts\//);
  await says(page, "Saved.");
  return { id: new URL(page.url()).pathname.split("/").pop(), number: (await page.locator("h1").innerText()).replace(/^\w+ /, "") };
}
async function voidIt(page, till, receipt) {
  await page.goto(`${till.url}/void?receipt=${receipt.number}`);
  await page.getByLabel("Why").fill("rung twice");
  await page.getByRole("button", { name: "Void it" }).click();
  await page.waitForURL(/\/receipts\//);
}
// The strip tells by itself; nobody reloads.
const strip = (page) => page.locator("#strip");
async function stripSays(page, text) {
  await strip(page).filter({ hasText: text }).waitFor({ timeout: PATIENCE });
}

test("a morning with the line: sales are safe at the hub and known to the other till", async () => {
  await first.goto(one.url);
  await stripSays(first, "Online");
  receipts.voided = await sell(first, one, "Lantern", "60");
  receipts.kept = await sell(first, one, "Coat hanger", "2.55");
  await stripSays(first, `The hub has everything up to receipt ${receipts.kept.number}`);
  await second.goto(`${two.url}/receipts?q=${receipts.kept.number}`);
  await assert.doesNotReject(async () => {
    for (let tries = 0; tries < 100 && (await second.locator("[data-row]").count()) === 0; tries += 1) {
      await second.waitForTimeout(200);
      await second.reload();
    }
  });
  assert.equal(await second.locator("[data-row]").count(), 1, "the other till holds the receipt");
});

test("the hub dies: the tills say so and go on", async () => {
  await first.goto(one.url);
  await second.goto(two.url);
  await hub.stop("SIGKILL");
  for (const page of [first, second]) await stripSays(page, "Offline since");
  await sell(first, one, "Doormat", "12.49");
  await stripSays(first, "1 waiting, oldest");
  await sound(first, "till-receipt-offline");
});

test("a double tap is one receipt, and a browser without script sells too", async () => {
  await first.goto(one.url);
  await first.getByLabel("Price of one").first().fill("3");
  await first.getByLabel("Cash given").fill("10");
  assert.equal(await first.locator("#total").innerText(), "£3.00");
  assert.equal(await first.locator("#change").innerText(), "£7.00");
  await sound(first, "till-sell");
  const form = await first.locator("form.register").evaluate((it) => [...new FormData(it)]);
  const data = new URLSearchParams([...form, ["do", "cash"]]).toString();
  const headers = { origin: one.url, "content-type": "application/x-www-form-urlencoded" };
  const send = () => first.request.post(`${one.url}/`, { data, headers, maxRedirects: 0 });
  const [a, b] = await Promise.all([send(), send()]);
  assert.deepEqual([a.status(), b.status()], [303, 303]);
  const target = (answer) => answer.headers().location.split("?")[0];
  assert.equal(target(a), target(b), "both taps lead to one receipt");
  await first.goto(one.url + b.headers().location);
  const again = [a, b].map((it) => it.headers().location).find((it) => it.includes("again"));
  assert.ok(again, "the second tap was told apart");
  await first.goto(one.url + again);
  await says(first, "This was recorded already");
  await stripSays(first, "2 waiting");

  const plain = await chrome.open({ javaScriptEnabled: false });
  await plain.goto(one.url);
  await plain.getByRole("button", { name: "Another line" }).click();
  assert.equal(await plain.getByLabel("Price of one").count(), 2);
  await plain.getByLabel("Price of one").nth(1).fill("1.20");
  await plain.getByRole("button", { name: "Card, authorised" }).click();
  await plain.getByText("Saved.").waitFor();
  await plain.context().close();
});

test("offline, a refund of the other till's sale says that it is not checked", async () => {
  await second.goto(`${two.url}/refund?receipt=${receipts.kept.number}`);
  await says(second, "not checked against other tills");
  await second.getByLabel("Coat hanger").fill("1");
  await second.getByLabel("Why").fill("does not fit");
  await sound(second, "till-refund");
  await second.getByRole("button", { name: "Give cash back" }).click();
  await second.waitForURL(/\/receipts\//);
  await says(second, "Made offline: not checked against other tills");
  await says(second, "£2.55");
  // More than was sold is refused before anything is written.
  await second.goto(`${two.url}/refund?receipt=${receipts.kept.number}`);
  await second.getByLabel("Coat hanger").fill("2");
  await second.getByLabel("Why").fill("again");
  await second.getByRole("button", { name: "Give cash back" }).click();
  await says(second, "more would come back than was sold");
});

test("both tills void one sale, and till-01 closes its day, all without the hub", async () => {
  await voidIt(first, one, receipts.voided);
  await voidIt(second, two, receipts.voided);
  await first.goto(`${one.url}/void?receipt=${receipts.voided.number}`);
  await says(first, "Already voided by");
  await sound(first, "till-void");
  await first.goto(`${one.url}/close`);
  const due = await first.locator(".sums dd").last().innerText();
  await first.getByLabel("Cash counted").fill(due);
  await sound(first, "till-close");
  await first.getByRole("button", { name: "Close the day" }).click();
  await first.waitForURL(/\/receipts\//);
  await says(first, "exact");
  await stripSays(first, "waiting, oldest");
});

test("the hub is back: the queue drains, and the double void stands in the review queue", async () => {
  hub = await company.hub();
  await logIn(desk, hub, anna);
  await desk.goto(`${hub.url}/review`);
  for (const page of [first, second]) await stripSays(page, "Nothing waits");
  for (const page of [first, second]) await stripSays(page, "Online");
  // The page was open before the receipts came: it shows the case without being loaded again.
  const row = desk.locator("[data-row]", { hasText: "Given back twice" });
  await row.waitFor();
  assert.match(await row.innerText(), /today[\s\S]*£120\.00[\s\S]*no, no line/);
  await sound(desk, "review");
});

test("a decision shows what it posts before it is taken, and the books change while somebody looks", async () => {
  const books = await chrome.open();
  await logIn(books, hub, anna);
  await books.goto(`${hub.url}/books`);
  const account = (name) => books.locator("tbody tr", { hasText: name });
  await account("Assets:Suspense:Voids").waitFor();
  assert.equal(await account("Expenses:Cash-Over-Short").count(), 0);
  await sound(books, "books");

  await desk.locator("[data-row] a", { hasText: "Given back twice" }).click();
  await says(desk, "Two honest tills without a line");
  assert.equal(await desk.locator("article.receipt").count(), 3, "the sale and both voids side by side");
  await sound(desk, "case");
  const choice = desk.locator(".choice", { hasText: "The drawer is wrong" });
  assert.match(await choice.innerText(), /Expenses:Cash-Over-Short[\s\S]*debit £120\.00/);
  await choice.locator("input").check();
  await desk.getByLabel("Why (required)").fill("counted twice; the drawer has it");
  await desk.getByRole("button", { name: "Record the decision" }).click();
  await says(desk, "The drawer is wrong: recorded");

  await account("Expenses:Cash-Over-Short").waitFor();
  assert.match(await account("Expenses:Cash-Over-Short").innerText(), /£120\.00/);
  assert.equal(await account("Assets:Suspense:Voids").count(), 0);
  await books.context().close();
});

test("a policy reaches the till, which then holds receipts back: the day says how many have not arrived", async () => {
  const boss = await chrome.open();
  await logIn(boss, hub, company.admin);
  const set = async (value) => {
    await boss.goto(`${hub.url}/fleet/policies/high-street`);
    await boss.getByLabel("Setting").selectOption("sync_interval");
    await boss.getByLabel("New value").fill(value);
    await boss.getByRole("button", { name: "Change" }).click();
    await says(boss, "is recorded and on its way");
  };
  await set("1h");
  await boss.goto(`${hub.url}/fleet`);
  await boss.locator("#devices tr", { hasText: "till-02" }).filter({ hasText: "version 1" }).waitFor();
  await sound(boss, "fleet");

  const grid = await chrome.open();
  await logIn(grid, hub, anna);
  await grid.goto(`${hub.url}/days`);
  await sell(second, two, "Hand warmer", "150");
  await sell(second, two, "Nesting boxes", "4");
  const cell = grid.locator("#grid a.cell").first();
  await cell.filter({ hasText: "2 not arrived" }).waitFor();
  await sound(grid, "days");
  const day = await chrome.open();
  await logIn(day, hub, anna);
  await day.goto(hub.url + await cell.getAttribute("href"));
  await says(day, "Known and not arrived");
  await sound(day, "day-not-arrived");

  await set("0s");
  await second.goto(`${two.url}/close`);
  await second.getByLabel("Cash counted").fill(await second.locator(".sums dd").last().innerText());
  await second.getByRole("button", { name: "Close the day" }).click();
  await second.waitForURL(/\/receipts\//);
  await cell.filter({ hasText: "finished" }).waitFor();
  await day.locator("#day > p .chip", { hasText: "finished" }).waitFor();
  await sound(day, "day-finished");

  await day.getByRole("button", { name: /Lock through/ }).click();
  await says(day, "are locked");
  await cell.filter({ hasText: "locked" }).waitFor();
  for (const page of [boss, grid, day]) await page.context().close();
});

test("every room reads well on a desk and on a phone, by day and by night", async () => {
  for (const room of ["", "books/journal", "books/suspense", "books/exports", "receipts", "audit", "duplicates"]) {
    await desk.goto(`${hub.url}/${room}`);
    await sound(desk, room.replace("/", "-") || "today");
  }
  await desk.goto(`${hub.url}/receipts?q=${receipts.voided.number}`);
  await desk.locator("[data-row] a").first().click();
  await says(desk, "Its way into the books");
  await sound(desk, "receipt");
  await desk.goto(`${hub.url}/books/exports`);
  await desk.getByRole("button", { name: "Cut" }).click();
  await says(desk, "Batch 1 is cut");
  const download = desk.waitForEvent("download");
  await desk.getByRole("link", { name: /^Download/ }).first().click();
  assert.ok((await download).suggestedFilename().length > 4);
  await sound(desk, "export");
});

test("no page said anything on the browser's console", () => {
  assert.deepEqual(chrome.faults, []);
});
