"""Makes the sample documents: invented companies, real formats. `make samples` runs it; its results are committed."""

from __future__ import annotations

import io
import random
from email.message import EmailMessage
from pathlib import Path

import docx
import openpyxl
import pikepdf
import pypdfium2
from PIL import Image, ImageFilter
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

FOLDER = Path(__file__).parent / "documents"

TERMS = (
    "This Agreement is made between the parties named above. Each party shall keep confidential all information received from the "
    "other party. Either party may terminate this Agreement with ninety days written notice. Liability is limited to the fees paid "
    "in the twelve months before the claim. The governing law of this Agreement is the law of the Republic of Ireland and the courts "
    "of Dublin have jurisdiction. The supplier shall indemnify the customer against claims of third parties arising herein. "
)


def pdf(pages: list[list[str]], size: int = 11) -> bytes:
    """A PDF with one text line per entry."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1)
    for number, lines in enumerate(pages, 1):
        canvas.setFont("Helvetica", size)
        y = A4[1] - 25 * mm
        for line in lines:
            canvas.drawString(25 * mm, y, line)
            y -= size + 4.5
        canvas.drawString(95 * mm, 12 * mm, f"Page {number} of {len(pages)}")
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def wrap(text: str, width: int = 88) -> list[str]:
    """Lines of at most `width` characters."""
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) + 1 > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]


def invoice(
    seller: str, number: str, day: str, due: str, items: list[tuple[str, int, float]], iban: str, vat: str, mail: str
) -> list[str]:
    """First page of an invoice."""
    lines = [seller, "1 Harbour Street, Dublin", f"VAT ID: {vat}", mail, "", "INVOICE", f"Invoice No: {number}", f"Invoice date: {day}",
             f"Due date: {due}", "", "Bill to: Northwind Trading Ltd, 7 Canal Road, Cork", "", "Qty  Description  Unit price  Amount"]  # fmt: skip
    lines += [f"{n}  {what}  EUR {price:,.2f}  EUR {n * price:,.2f}" for what, n, price in items]
    net = sum(n * price for _, n, price in items)
    tax = round(net * 0.23, 2)
    return [*lines, "", f"Subtotal: EUR {net:,.2f}", f"VAT 23%: EUR {tax:,.2f}", f"Total due: EUR {net + tax:,.2f}", "",
            f"IBAN: {iban}", "Payment terms: 30 days"]  # fmt: skip


def invoices() -> dict[str, bytes]:
    """Three invoices; the first has three pages."""
    acme = invoice(
        "Acme Industrial GmbH", "INV-2026-0042", "12 March 2026", "2026-04-11",
        [("Hydraulic pump HP-200", 4, 612.5), ("Seal kit SK-9", 12, 18.4), ("On-site service, day", 2, 890.0)],
        "DE89 3704 0044 0532 0130 00", "DE136695976", "billing@acme-industrial.example",
    )  # fmt: skip
    notes = [["Delivery notes", "", *wrap("All goods were delivered to the Cork warehouse and signed for by the stores manager. " * 12)],
             ["Terms of delivery", "", *wrap("Goods remain the property of the seller until the invoice is paid in full. " * 14)]]  # fmt: skip
    globex = invoice(
        "Globex Software SARL", "GX/2026/117", "02/04/2026", "02/05/2026",
        [("Platform licence, annual", 1, 12_400.0), ("Priority support", 1, 2_300.0)],
        "FR14 2004 1010 0505 0001 3M02 606", "FR83404833048", "accounts@globex.example",
    )  # fmt: skip
    initech = invoice(
        "Initech Office Supplies", "7781-B", "April 20, 2026", "May 20, 2026",
        [("Paper A4, box", 30, 21.9), ("Toner T-88", 6, 74.5)], "IE29 AIBK 9311 5212 3456 78", "IE6388047V", "sales@initech.example",
    )  # fmt: skip
    return {
        "invoice-acme-2026-0042.pdf": pdf([acme, *notes]), "invoice-globex-117.pdf": pdf([globex]),
        "invoice-initech-7781.pdf": pdf([initech]),
    }  # fmt: skip


def contracts() -> dict[str, bytes]:
    """A four-page service contract and a short one."""
    head = [
        "SERVICE AGREEMENT",
        "",
        "between Northwind Trading Ltd and Globex Software SARL",
        "dated 15 January 2026",
        "",
    ]
    pages = [[*head, *wrap(TERMS * 4)], *([f"Section {n}", "", *wrap(TERMS * 5)] for n in range(2, 5))]
    nda = [
        "NON-DISCLOSURE AGREEMENT",
        "",
        "between Acme Industrial GmbH and Northwind Trading Ltd",
        "",
        *wrap(TERMS * 2),
    ]
    return {"contract-services.pdf": pdf(pages), "contract-nda.pdf": pdf([nda])}


def scan(lines: list[str], seed: int) -> Image.Image:
    """A page as a scanner produces it: grey, slightly rotated, noisy. `seed` determines the noise."""
    page = pypdfium2.PdfDocument(pdf([lines], size=13))[0]
    image: Image.Image = page.render(scale=150 / 72, grayscale=True).to_pil()
    image = image.rotate(0.6, fillcolor=255, resample=Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(0.4))
    noise = random.Random(seed)
    pixels = image.load()
    assert pixels is not None
    for _ in range(6000):
        x, y = noise.randrange(image.width), noise.randrange(image.height)
        pixels[x, y] = noise.randrange(90, 200)
    return image


def scans() -> dict[str, bytes]:
    """A receipt as a picture, and an invoice as a PDF that holds only a picture."""
    receipt = ["CORNER CAFE", "12 Quay Street, Galway", "", "RECEIPT", "Date: 2026-05-03", "", "2 Coffee      EUR 7.00",
               "1 Sandwich    EUR 6.50", "", "Total: EUR 13.50", "Paid by card", "", "Thank you for your visit"]  # fmt: skip
    paper = invoice(
        "Umbrella Cleaning Ltd", "UC-5509", "11 May 2026", "2026-06-10", [("Office cleaning, month", 1, 480.0)],
        "GB29 NWBK 6016 1331 9268 19", "GB980780684", "office@umbrella.example",
    )  # fmt: skip
    png, page = io.BytesIO(), io.BytesIO()
    scan(receipt, 1).save(png, "PNG", optimize=True)
    scan(paper, 2).save(page, "PDF", resolution=150, quality=60)
    return {"scan-receipt.png": png.getvalue(), "scan-invoice-umbrella.pdf": page.getvalue()}


def letters() -> dict[str, bytes]:
    """Two Word letters."""
    made: dict[str, bytes] = {}
    for name, subject, body in (
        (
            "letter-complaint.docx",
            "Re: late delivery of order 4471",
            "the pumps of our order 4471 came two weeks late. Please tell us why.",
        ),
        (
            "letter-offer.docx",
            "Regarding your enquiry",
            "we are glad to offer you the annual maintenance for EUR 3,600.00, until 31 July 2026.",
        ),
    ):
        letter = docx.Document()
        for line in (
            "Northwind Trading Ltd",
            "7 Canal Road, Cork",
            "",
            "4 June 2026",
            "",
            subject,
            "",
            "Dear Ms Byrne,",
            "",
        ):
            letter.add_paragraph(line)
        letter.add_paragraph(f"Thank you for your letter. In this matter {body}")
        letter.add_paragraph("Kind regards,")
        letter.add_paragraph("Aoife Walsh, Purchasing")
        buffer = io.BytesIO()
        letter.save(buffer)
        made[name] = buffer.getvalue()
    return made


def price_list() -> dict[str, bytes]:
    """A price list with two sheets."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Price list 2026"
    sheet.append(["Price list", "valid from 2026-01-01"])
    sheet.append(["SKU", "Article", "Unit price", "Currency", "Discount"])
    for n in range(1, 61):
        sheet.append([f"HP-{n:03}", f"Pump type {n}", round(99.5 + 7.25 * n, 2), "EUR", "5%" if n % 5 == 0 else ""])
    spare = book.create_sheet("Spare parts")
    for n in range(1, 31):
        spare.append([f"SK-{n:03}", f"Seal kit {n}", round(4.1 * n, 2), "EUR"])
    buffer = io.BytesIO()
    book.save(buffer)
    return {"price-list-2026.xlsx": buffer.getvalue()}


def mails() -> dict[str, bytes]:
    """A plain order with an attachment, and an HTML one."""
    order = EmailMessage()
    order["From"], order["To"] = "Aoife Walsh <purchasing@northwind.example>", "sales@acme-industrial.example"
    order["Subject"], order["Date"] = "Order 4471: four hydraulic pumps", "Mon, 02 Mar 2026 09:12:00 +0000"
    order.set_content("Please send us four pumps HP-200 at EUR 612.50 each by 20 March 2026.\n\nKind regards\nAoife Walsh\n")
    order.add_attachment(b"sku,qty\nHP-200,4\n", maintype="text", subtype="csv", filename="order-4471.csv")
    news = EmailMessage()
    news["From"], news["To"] = "Globex <news@globex.example>", "it@northwind.example"
    news["Subject"], news["Date"] = "Planned maintenance on 9 May", "Tue, 28 Apr 2026 15:00:00 +0000"
    news.set_content(
        "<html><body><h1>Maintenance</h1><p>The platform is <b>not available</b> on 2026-05-09 from 02:00 UTC.</p></body></html>",
        subtype="html",
    )
    for mail in (order, news):
        if mail.is_multipart():
            mail.set_boundary("=-stageline-sample")
    return {"email-order-4471.eml": order.as_bytes(), "email-maintenance.eml": news.as_bytes()}


def troublemakers(good: dict[str, bytes]) -> dict[str, bytes]:
    """An encrypted PDF and a damaged one."""
    locked = io.BytesIO()
    with pikepdf.open(io.BytesIO(good["invoice-globex-117.pdf"])) as document:
        document.save(locked, encryption=pikepdf.Encryption(user="open sesame", owner="owner"), deterministic_id=False)
    whole = good["contract-nda.pdf"]
    return {"locked-invoice.pdf": locked.getvalue(), "damaged-contract.pdf": whole[:200] + b"\0" * 64 + whole[400:700]}


def main() -> None:
    """Write every sample, and print how many there are. Formats with random parts differ from the committed files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = invoices() | contracts() | scans() | letters() | price_list() | mails()
    for name, data in (made | troublemakers(made)).items():
        (FOLDER / name).write_bytes(data)
    print(f"{len(list(FOLDER.iterdir()))} documents in {FOLDER.name}/")


if __name__ == "__main__":
    main()
