module language-go

go 1.24
